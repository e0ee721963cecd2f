"""Validation of one network: pairs of a held-out labelled fixed case and a labelled moving one judge it."""

import math
from collections.abc import Sequence
from statistics import fmean

from covoxel.training.joint.batch import pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint.validation import judging_pairs
from covoxel.training.joint_net.batch import ShownPairs, shown_of
from covoxel.training.joint_net.objective import LABELS, JointNetObjective
from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.sampling import Chosen


class JointNetValidation:
    """Judges a network by the same `judging_pairs` at every call, as it is used: out of training, moving labels known.

    Parameters
    ----------
    material
        All cases, the held-out ones with their labels.
    judging
        Names of the held-out cases; of none, nothing is judged.
    recipe
        Kind of the pairs.
    """

    def __init__(self, material: Material, judging: Sequence[str], recipe: JointNetRecipe) -> None:
        self.material, self.recipe = material, recipe
        self.pairs = judging_pairs(material, judging, recipe.pairs, recipe.seed)

    def judge(self, machine: Machine, objective: JointNetObjective) -> dict[str, float]:
        """Mean of each part of the loss, and under "loss" the sum of those that labels decide, or of all without any.

        Empty where nobody judges.
        """
        parts = machine.judged(machine.average, lambda rows: self._batch(self.pairs[rows], machine), len(self.pairs))
        given = [(self.material.given(pair.fixed), self.material.given(pair.moving)) for pair in self.pairs]
        means = {
            name: fmean(values) for name, values in parts.items() if any(objective.counts(name, *g) for g in given)
        }
        if not means:
            return {}
        decided = [name for name in LABELS if name in means] or list(means)
        total = sum(means[name] for name in decided)
        return {"loss": total if math.isfinite(total) else math.inf, **means}

    def _batch(self, chosen: list[Chosen], machine: Machine) -> ShownPairs:
        pairs = pairs_of(self.material, chosen, machine.device)
        return ShownPairs(pairs, shown_of(self.material, chosen, self.recipe))
