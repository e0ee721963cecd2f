"""Validation of joint training: held-out labelled cases judge both networks, as they are out of training."""

import math
from collections.abc import Sequence
from statistics import fmean

import torch

from covoxel.training.joint.batch import images_of, pairs_of
from covoxel.training.joint.complementary import UNSTABLE
from covoxel.training.joint.material import Given, Material
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.recipe import PairKind
from covoxel.training.registration.sampling import Chosen
from covoxel.training.seeds import generator

PAIRS = 24
"""Pairs that judge, at most."""


def judging_pairs(material: Material, judging: Sequence[str], kind: PairKind, seed: int) -> list[Chosen]:
    """Pairs of a held-out fixed and another labelled moving case, the same ones for the same seed.

    Moving cases are those that teach, of other subjects; for pairs within a subject its other labelled cases, which
    are held out with it.
    """
    cases, within = material.cases, kind == "within"
    labelled = material.places(Given.TRUE)
    fixed = [place for place in labelled if cases[place].id in judging]
    moving = labelled if within else [place for place in labelled if place not in fixed]
    people = [case.person for case in cases]
    pairs = [Chosen(f, m) for f in fixed for m in moving if f != m and (people[f] == people[m]) == within]
    order = torch.randperm(len(pairs), generator=generator(seed, "validation pairs")).tolist()
    return [pairs[index] for index in order[:PAIRS]]


class JointValidation:
    """Judges networks by the same cases at every call.

    The segmentation network by its supervised loss; the registration network by that of `judging_pairs`, both cases
    with their labels.

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
        self.places = [place for place in material.places(Given.TRUE) if material.cases[place].id in judging]
        self.pairs = judging_pairs(material, judging, recipe.registration.pairs, recipe.seed)

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
