"""Validation of joint training: held-out labelled cases judge both networks, as they are out of training."""

import math
from collections.abc import Sequence
from statistics import fmean

import torch

from covoxel.training.joint.batch import images_of, pairs_of
from covoxel.training.joint.complementary import UNSTABLE
from covoxel.training.joint.material import Material
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.sampling import Chosen
from covoxel.training.seeds import generator

PAIRS = 24
"""Pairs that judge the registration network."""


class JointValidation:
    """Judges networks by the same cases at every call.

    The segmentation network by its supervised loss; the registration network by that of pairs of a held-out fixed and
    a teaching moving case, both with their labels.

    Parameters
    ----------
    material
        All cases, the held-out ones with their labels.
    judging
        Names of the held-out cases; of none, nothing is judged.
    recipe
        Kind of the pairs.
    """

    def __init__(self, material: Material, judging: Sequence[str], recipe: JointRecipe) -> None:
        self.material = material
        labelled = [place for place, case in enumerate(material.cases) if case.labels is not None]
        self.places = [place for place in labelled if material.cases[place].id in judging]
        moving = [place for place in labelled if place not in self.places]
        within = recipe.registration.pairs == "within"
        people = [case.person for case in material.cases]
        pairs = [Chosen(f, m) for f in self.places for m in moving if (people[f] == people[m]) == within]
        order = torch.randperm(len(pairs), generator=generator(recipe.seed, "validation pairs")).tolist()
        self.pairs = [pairs[index] for index in order[:PAIRS]]

    def segmentation(self, machine: Machine) -> dict[str, float]:
        """Parts of the loss of the segmentation network, and under "loss" their sum; empty where nobody judges."""
        places = self.places
        parts = machine.judged(
            machine.average, lambda rows: images_of(self.material, places[rows], machine.device), len(places)
        )
        return _means({"supervised": parts["supervised"]} if places else {})

    def registration(self, machine: Machine) -> dict[str, float]:
        """The same of the registration network."""
        pairs = self.pairs
        parts = machine.judged(
            machine.average, lambda rows: pairs_of(self.material, pairs[rows], machine.device), len(pairs)
        )
        return _means({name: values for name, values in parts.items() if name not in UNSTABLE})


def _means(parts: dict[str, list[float]]) -> dict[str, float]:
    means = {name: fmean(values) for name, values in parts.items()}
    total = sum(means.values())
    return {"loss": total if math.isfinite(total) else math.inf, **means} if means else {}
