"""Which cases make the pairs of a step: two subjects, or two cases of one; some of the pairs with labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.recipe import Recipe
from covoxel.training.registration.split import has_pairs
from covoxel.training.seeds import generator


@dataclass(frozen=True)
class Chosen:
    """Places of the fixed and the moving case of a pair, and whether its labels are compared."""

    fixed: int
    moving: int
    labelled: bool = False


class PairSampler:
    """Draws the pairs of any step, each step from a generator of its own.

    Parameters
    ----------
    cases
        All of them.
    places
        Which are drawn.
    recipe
        Kind of the pairs, and the share of labelled ones.

    Raises
    ------
    ValueError
        If no pair of the recipe's kind can be drawn.
    """

    def __init__(self, cases: Sequence[TrainingCase], places: Sequence[int], recipe: Recipe) -> None:
        self.recipe = recipe
        self._people = [case.person for case in cases]
        self._single = recipe.supervision == "warps"
        self._all = self._eligible(cases, places, "cases")
        self._labelled: list[int] = []
        self._taught: set[int] = set()
        if recipe.supervision == "labels":
            labelled = [place for place in places if cases[place].labels is not None]
            self._labelled, self._taught = self._eligible(cases, labelled, "labelled cases"), set(labelled)

    def _eligible(self, cases: Sequence[TrainingCase], places: Sequence[int], what: str) -> list[int]:
        """Those that have a partner."""
        if not has_pairs(cases, places, self.recipe):
            kind = "one subject" if self.recipe.pairs == "within" else "two subjects"
            raise ValueError(
                f"recipe {self.recipe.name} needs two {what} of {kind} to make a pair, got {len(places)} {what} of "
                f"{len({self._people[place] for place in places})} subjects"
            )
        if self._single or self.recipe.pairs == "inter":
            return list(places)
        names = [self._people[place] for place in places]
        return [place for place in places if names.count(self._people[place]) > 1]

    def step(self, step: int) -> list[Chosen]:
        """Pairs of step `step` (from 0), those with labels first."""
        source = generator(self.recipe.seed, "pairs", step)
        first = step * self.recipe.batch
        labelled = due(first, self.recipe.batch, self.recipe.labelled_share) if self._labelled else 0
        return self.draw(source, self.recipe.batch, labelled)

    def draw(self, source: torch.Generator, count: int, labelled: int = 0) -> list[Chosen]:
        """`count` pairs, `labelled` of them or more with labels; these come first."""
        pairs = [self._pair(source, number < labelled) for number in range(count)]
        return sorted(pairs, key=lambda pair: not pair.labelled)

    def _pair(self, source: torch.Generator, labelled: bool) -> Chosen:
        pool = self._labelled if labelled else self._all
        fixed = one_of(pool, source)
        if self._single:
            return Chosen(fixed, fixed)
        within = self.recipe.pairs == "within"
        while True:
            moving = one_of(pool, source)
            if moving != fixed and (self._people[moving] == self._people[fixed]) == within:
                return Chosen(fixed, moving, {fixed, moving} <= self._taught)


def due(first: int, count: int, share: float) -> int:
    """How many of `count` that follow the first `first` are of a kind with such a share of all, evenly spread."""
    return math.floor((first + count) * share + 1e-9) - math.floor(first * share + 1e-9)


def one_of(pool: Sequence[int], source: torch.Generator) -> int:
    """One of the pool, drawn."""
    return pool[int(torch.randint(len(pool), (1,), generator=source))]
