"""Validation: the loss of fixed pairs of held-out cases, as they are, under a network out of training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import nn

from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.objective import PARTS
from covoxel.training.registration.pairs import Pairs, plain_pairs
from covoxel.training.registration.recipe import Recipe
from covoxel.training.registration.sampling import Chosen, PairSampler
from covoxel.training.registration.split import Split, has_pairs
from covoxel.training.registration.warps import synthetic_pairs
from covoxel.training.seeds import generator

PAIRS = 24
"""Pairs that judge."""


class Validation:
    """Judges a network; the same pairs at every call, whatever was drawn before.

    Similarity and regularity are of pairs of held-out cases. So are labels, where two of them or more have some; else
    they are of pairs of labelled cases that also teach.

    Parameters
    ----------
    cases
        All of them.
    parts
        Who judges.
    recipe
        Kind of the pairs.
    values
        Number of labels, background included.
    """

    def __init__(self, cases: Sequence[TrainingCase], parts: Split, recipe: Recipe, values: int) -> None:
        self.cases, self.recipe, self.values = cases, recipe, values
        self.notes: list[str] = []
        self._pairs = self._draw(parts.judging, "validation")
        self._labelled: list[Chosen] = []
        if recipe.supervision == "labels":
            self._labelled = self._draw_labelled(parts)

    def _draw(self, places: Sequence[int], what: str) -> list[Chosen]:
        """Pairs of the cases at `places`, as many as are wanted; no pair of images twice."""
        warps = self.recipe.supervision == "warps"
        kind = self.recipe if warps else replace(self.recipe, supervision="images")
        drawn = PairSampler(self.cases, places, kind).draw(generator(self.recipe.seed, what), 4 * PAIRS)
        return (drawn if warps else list(dict.fromkeys(drawn)))[:PAIRS]

    def _draw_labelled(self, parts: Split) -> list[Chosen]:
        for places in (parts.judging, parts.teaching):
            labelled = [place for place in places if self.cases[place].labels is not None]
            if has_pairs(self.cases, labelled, self.recipe):
                if places is parts.teaching and places is not parts.judging:
                    self.notes.append("labels are too few to hold any out: those that teach were judged on as well")
                return [Chosen(pair.fixed, pair.moving, True) for pair in self._draw(labelled, "validation of labels")]
        return []

    def judge(self, network: nn.Module, machine: Machine) -> dict[str, float]:
        """Mean of each part of the loss, and under "loss" their sum."""
        images = machine.judged(network, self._batch(self._pairs, machine), len(self._pairs))
        images.pop("labels", None)
        if self._labelled:
            labels = machine.judged(network, self._batch(self._labelled, machine), len(self._labelled))
            images["labels"] = labels["labels"]
        means = {name: fmean(images[name]) for name in PARTS if name in images}
        total = sum(means.values())
        return {"loss": total if math.isfinite(total) else math.inf, **means}

    def _batch(self, chosen: list[Chosen], machine: Machine) -> Callable[[slice], Pairs]:
        def pairs(chunk: slice) -> Pairs:
            if self.recipe.supervision == "warps":
                return self._synthetic(chosen[chunk], chunk.start, machine.device)
            return plain_pairs(self.cases, chosen[chunk], self.values, machine.device)

        return pairs

    def _synthetic(self, chosen: list[Chosen], first: int, device: torch.device) -> Pairs:
        """One pair after the other, each from a generator of its own: the same however many are judged at once."""
        one_by_one = []
        for number, pair in enumerate(chosen, start=first):
            source = generator(self.recipe.seed, "validation", "warp", number)
            image = [self.cases[pair.fixed]]
            one_by_one.append(
                synthetic_pairs(image, self.recipe.warps, self.recipe.augmentation, source, device).tensors()
            )
        return Pairs(**{name: torch.cat([one[name] for one in one_by_one]) for name in one_by_one[0]})
