"""Which pairs and images make a step of joint training, by the labels that there are."""

from collections.abc import Sequence
from typing import Protocol

import torch

from covoxel.training.joint.material import Given, Material
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.recipe import PairKind, Recipe
from covoxel.training.registration.sampling import Chosen, due, one_of

Pool = tuple[Sequence[int], Sequence[int]]


class PairShares(Protocol):
    """What is read of a recipe; see `JointRecipe`."""

    @property
    def name(self) -> str:
        """Of the recipe."""
        ...

    @property
    def registration(self) -> Recipe:
        """Kind of the pairs and their number in a step."""
        ...

    @property
    def labelled_share(self) -> float:
        """Share of the pairs with two true labels."""
        ...

    @property
    def half_labelled_share(self) -> float:
        """Share of the pairs with just one."""
        ...


class LabelledPairSampler:
    """Draws the pairs of a step from a generator.

    Parameters
    ----------
    material
        All cases.
    shares
        Kind of the pairs, batch and shares.
    """

    def __init__(self, material: Material, shares: PairShares) -> None:
        self.material, self._shares = material, shares
        self.people = [case.person for case in material.cases]
        self.true, self.fused = material.places(Given.TRUE), material.places(Given.FUSED)
        others = [place for place in range(len(self.people)) if place not in set(self.true)]
        everyone = range(len(self.people))
        self._kind: PairKind = shares.registration.pairs
        self._both = _sifted((self.true, self.true), self.people, self._kind)
        self._half = _sifted((self.true, others), self.people, self._kind)
        self._any = _sifted((everyone, everyone), self.people, self._kind)

    @property
    def has_labelled(self) -> bool:
        """Whether there is a pair with two true labels."""
        return bool(self._both[0])

    @property
    def has_half_labelled(self) -> bool:
        """Whether there is a pair with just one true label."""
        return bool(self._half[0])

    def check_pairs(self) -> None:
        """See that there is a pair.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self._any[0]:
            kind = "one subject" if self._kind == "within" else "two subjects"
            raise ValueError(
                f"recipe {self._shares.name} needs two cases of {kind} to make a pair, got {len(self.people)} cases of "
                f"{len(set(self.people))} subjects"
            )

    def pairs(self, source: torch.Generator, update: int) -> list[Chosen]:
        """Pairs of update `update` (from 0), those with most true labels first."""
        batch = self._shares.registration.batch
        both = due(update * batch, batch, self._shares.labelled_share)
        half = due(update * batch, batch, self._shares.half_labelled_share)
        chosen = []
        for number in range(batch):
            if number < both and self.has_labelled:
                chosen.append(self._pair(self._both, source))
            elif number < both + half and self.has_half_labelled:
                chosen.append(self._half_labelled(source))
            else:
                chosen.append(self._pair(self._any, source))
        return sorted(chosen, key=lambda pair: -self._labels(pair))

    def _half_labelled(self, source: torch.Generator) -> Chosen:
        pair = self._pair(self._half, source)
        fixed_is_labelled = bool(torch.rand((), generator=source) < 0.5)
        return pair if fixed_is_labelled else Chosen(pair.moving, pair.fixed)

    def _pair(self, pool: Pool, source: torch.Generator) -> Chosen:
        first = one_of(pool[0], source)
        return Chosen(first, one_of(_partners(first, pool[1], self.people, self._kind), source))

    def _labels(self, pair: Chosen) -> int:
        return sum(self.material.given(place) is Given.TRUE for place in (pair.fixed, pair.moving))


class JointSampler(LabelledPairSampler):
    """Draws the pairs or images of a step of either network.

    Parameters
    ----------
    material
        All cases.
    recipe
        Kind of the pairs, batches and shares.
    """

    def __init__(self, material: Material, recipe: JointRecipe) -> None:
        super().__init__(material, recipe)
        self.recipe = recipe

    def registration(self, source: torch.Generator, update: int) -> list[Chosen]:
        """Pairs of update `update` (from 0) of the registration network, those with most true labels first."""
        return self.pairs(source, update)

    def half_labelled(self, source: torch.Generator) -> list[Chosen]:
        """Pairs with one true label each, for the segmentation network.

        The labelled one moves where nothing is to be learnt from labels that are fixed.
        """
        pairs = [self._half_labelled(source) for _ in range(self.recipe.segmentation.batch)]
        if self.recipe.anatomy_weight:
            return pairs
        true = set(self.true)
        return [pair if pair.moving in true else Chosen(pair.moving, pair.fixed) for pair in pairs]

    def any_pairs(self, source: torch.Generator, count: int) -> list[Chosen]:
        """Pairs whatever their labels."""
        return [self._pair(self._any, source) for _ in range(count)]

    def images(self, source: torch.Generator, update: int) -> list[Chosen]:
        """Labelled cases, each as both of a pair, for update `update` of the segmentation network.

        Half of them have fused labels, if there are such.
        """
        batch = self.recipe.segmentation.batch
        share = (0.5 if self.true else 1.0) if self.fused and self.recipe.fused_weight else 0.0
        fused = due(update * batch, batch, share)
        places = [one_of(self.fused if number < fused else self.true, source) for number in range(batch)]
        return [Chosen(place, place) for place in places]


def _partners(place: int, among: Sequence[int], people: Sequence[str], kind: PairKind) -> list[int]:
    """Those that make a pair with the case at `place`."""
    within = kind == "within"
    return [other for other in among if other != place and (people[other] == people[place]) == within]


def _sifted(pool: Pool, people: Sequence[str], kind: PairKind) -> Pool:
    """The pool without first cases that have no partner."""
    return [place for place in pool[0] if _partners(place, pool[1], people, kind)], pool[1]
