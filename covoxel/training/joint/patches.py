"""Patches: which part of the images a step learns from, where whole ones are too big."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.training.joint.material import Box, Given, Material
from covoxel.training.registration.sampling import Chosen

SHOWING = 0.5
"""Share of the patches that hold a structure."""
TRIES = 8
"""So often a patch is drawn anew that lies outside the field of view."""


class Patches:
    """Draws a part of the images of each pair from a generator.

    Half of the patches hold a voxel of a structure, each structure as often as any other whatever its size: of the
    true labels of the pair, else of its fused ones. The others lie anywhere, as do all where there are no labels.

    Parameters
    ----------
    material
        All cases.
    shape
        Sides, voxels; an axis on which the images are shorter is taken whole. None: whole images.

    Raises
    ------
    ValueError
        If it has not as many sides as the images.
    """

    def __init__(self, material: Material, shape: Sequence[int] | None) -> None:
        self.material = material
        self._whole = tuple(material.cases[0].image.shape)
        if shape is not None and len(shape) != len(self._whole):
            raise ValueError(f"patch must have {len(self._whole)} sides, as the images have, got {tuple(shape)}")
        self.shape = None if shape is None else tuple(map(min, shape, self._whole))
        self._present: dict[int, list[int]] = {}

    def draw(self, chosen: Sequence[Chosen], source: torch.Generator) -> list[Box] | None:
        """A box for each pair, all of one shape; None if whole images are wanted. `source` is on the CPU."""
        if self.shape is None:
            return None
        return [self._box(pair, source) for pair in chosen]

    def _box(self, pair: Chosen, source: torch.Generator) -> Box:
        if bool(torch.rand((), generator=source) < SHOWING):
            voxel = self._structure(pair, source)
            if voxel is not None:
                return self._around(voxel, source)
        masks = [self.material.cases[place].mask for place in {pair.fixed, pair.moving}]
        for _ in range(TRIES):
            box = self._anywhere([0] * len(self._whole), self._room, source)
            if all(bool(mask[box].any()) for mask in masks):
                break
        return box

    @property
    def _room(self) -> list[int]:
        """Last first voxel along each axis."""
        assert self.shape is not None
        return [side - mine for side, mine in zip(self._whole, self.shape, strict=True)]

    def _around(self, voxel: Sequence[int], source: torch.Generator) -> Box:
        """A patch that holds `voxel`, anywhere in it."""
        assert self.shape is not None
        least = [max(0, at - side + 1) for at, side in zip(voxel, self.shape, strict=True)]
        most = [min(at, room) for at, room in zip(voxel, self._room, strict=True)]
        return self._anywhere(least, most, source)

    def _anywhere(self, least: Sequence[int], most: Sequence[int], source: torch.Generator) -> Box:
        """A patch whose first voxel is one from `least` to `most`."""
        assert self.shape is not None
        first = [
            low + int(torch.randint(high - low + 1, (1,), generator=source))
            for low, high in zip(least, most, strict=True)
        ]
        return tuple(slice(at, at + side) for at, side in zip(first, self.shape, strict=True))

    def _structure(self, pair: Chosen, source: torch.Generator) -> list[int] | None:
        """A voxel of a structure that one of the pair's labels show; None where they show none."""
        given = {place: self.material.given(place) for place in (pair.fixed, pair.moving)}
        best = max(given.values())
        if best is Given.NONE:
            return None
        place = next(place for place, kind in given.items() if kind is best)
        present = self._structures(place)
        if not present:
            return None
        value = present[int(torch.randint(len(present), (1,), generator=source))]
        voxels = self._where(place, value).nonzero()
        found: list[int] = voxels[int(torch.randint(len(voxels), (1,), generator=source))].tolist()
        return found

    def _structures(self, place: int) -> list[int]:
        """Labels but background that are somewhere in the case at `place`."""
        if place not in self._present:
            values = range(1, self.material.values)
            self._present[place] = [value for value in values if bool(self._where(place, value).any())]
        return self._present[place]

    def _where(self, place: int, value: int) -> Tensor:
        """Voxels `(*shape)` of a label."""
        case = self.material.cases[place]
        if case.labels is not None:
            return case.labels == value
        labels = self.material.fused[case.id].labels
        return labels[value] > 0.5 if labels.is_floating_point() else labels == value
