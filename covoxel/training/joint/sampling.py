"""Which pairs and images make a step of joint training, by the labels that there are."""

from collections.abc import Sequence

import torch

from covoxel.training.joint.material import Given, Material
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.recipe import PairKind
from covoxel.training.registration.sampling import Chosen, due, one_of

Pool = tuple[Sequence[int], Sequence[int]]


class JointSampler:
    """Draws the pairs or images of a step from a generator.

    Parameters
    ----------
    material
        All cases.
    recipe
        Kind of the pairs, batches and shares.
    """

    def __init__(self, material: Material, recipe: JointRecipe) -> None:
        self.material, self.recipe = material, recipe
        self.people = [case.person for case in material.cases]
        self.true, self.fused = material.places(Given.TRUE), material.places(Given.FUSED)
        others = [place for place in range(len(self.people)) if place not in set(self.true)]
        everyone = range(len(self.people))
        self._both = _sifted((self.true, self.true), self.people, recipe.registration.pairs)
        self._half = _sifted((self.true, others), self.people, recipe.registration.pairs)
        self._any = _sifted((everyone, everyone), self.people, recipe.registration.pairs)

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
            kind = "one subject" if self.recipe.registration.pairs == "within" else "two subjects"
            raise ValueError(
                f"recipe {self.recipe.name} needs two cases of {kind} to make a pair, got {len(self.people)} cases of "
                f"{len(set(self.people))} subjects"
            )

    def registration(self, source: torch.Generator, update: int) -> list[Chosen]:
        """Pairs of update `update` (from 0) of the registration network, those with most true labels first."""
        batch = self.recipe.registration.batch
        both = due(update * batch, batch, self.recipe.labelled_share)
        half = due(update * batch, batch, self.recipe.half_labelled_share)
        chosen = []
        for number in range(batch):
            if number < both and self._both[0]:
                chosen.append(self._pair(self._both, source))
            elif number < both + half and self.has_half_labelled:
                chosen.append(self._half_labelled(source))
            else:
                chosen.append(self._pair(self._any, source))
        return sorted(chosen, key=lambda pair: -self._labels(pair))

    def half_labelled(self, source: torch.Generator) -> list[Chosen]:
        """Pairs with one true label each, for the segmentation network."""
        return [self._half_labelled(source) for _ in range(self.recipe.segmentation.batch)]

    def images(self, source: torch.Generator, update: int) -> list[Chosen]:
        """Labelled cases, each as both of a pair, for update `update` of the segmentation network.

        Half of them have fused labels, if there are such.
        """
        batch = self.recipe.segmentation.batch
        share = (0.5 if self.true else 1.0) if self.fused and self.recipe.fused_weight else 0.0
        fused = due(update * batch, batch, share)
        places = [one_of(self.fused if number < fused else self.true, source) for number in range(batch)]
        return [Chosen(place, place) for place in places]

    def _half_labelled(self, source: torch.Generator) -> Chosen:
        pair = self._pair(self._half, source)
        fixed_is_labelled = bool(torch.rand((), generator=source) < 0.5)
        return pair if fixed_is_labelled else Chosen(pair.moving, pair.fixed)

    def _pair(self, pool: Pool, source: torch.Generator) -> Chosen:
        first = one_of(pool[0], source)
        partners = _partners(first, pool[1], self.people, self.recipe.registration.pairs)
        return Chosen(first, one_of(partners, source))

    def _labels(self, pair: Chosen) -> int:
        return sum(self.material.given(place) is Given.TRUE for place in (pair.fixed, pair.moving))


def _partners(place: int, among: Sequence[int], people: Sequence[str], kind: PairKind) -> list[int]:
    """Those that make a pair with the case at `place`."""
    within = kind == "within"
    return [other for other in among if other != place and (people[other] == people[place]) == within]


def _sifted(pool: Pool, people: Sequence[str], kind: PairKind) -> Pool:
    """The pool without first cases that have no partner."""
    return [place for place in pool[0] if _partners(place, pool[1], people, kind)], pool[1]
