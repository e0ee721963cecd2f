"""Samples: the part of each case that a step learns from, augmented, with its fused and its true labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.training.augmentation import random_maps
from covoxel.training.correction.cases import Box, CorrectionCase, region
from covoxel.training.correction.settings import CorrectionSettings
from covoxel.training.registration.objective import with_background
from covoxel.training.registration.pairs import Stack

SHOWING = 0.5
"""Share of the patches whose middle is a structure's voxel, as far as the region's border lets it."""


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch: stacks of one image each, which need not have one size. Their labels are the fused, then the true ones.

    Parameters
    ----------
    stacks
        Image and mask `(1, 1, *shape)`, labels `(1, 2 * structure, *shape)`.
    """

    stacks: tuple[Stack, ...]

    def __len__(self) -> int:
        return len(self.stacks)

    def rows(self, wanted: slice) -> "Samples":
        """Some of it."""
        return Samples(self.stacks[wanted])


def fused_and_true(stack: Stack) -> tuple[Tensor, Tensor]:
    """Probabilities of all labels by fusion, and by the truth, `(1, label, *shape)` each."""
    fused, truth = stack.labels.chunk(2, dim=1)
    return with_background(fused), with_background(truth)


class Sampler:
    """Draws samples: whole regions, or patches of those that are too large.

    Half of the patches are centred on a voxel of a structure, each structure as often as any other whatever its size.

    Parameters
    ----------
    cases
        All of them; those of which fusion found nothing are left out.
    settings
        Sizes and augmentation.

    Raises
    ------
    ValueError
        If fusion found nothing at all.
    """

    def __init__(self, cases: Sequence[CorrectionCase], settings: CorrectionSettings) -> None:
        regions = [region(case.probabilities, settings.margin_vox) for case in cases]
        self._cases = [(case, box) for case, box in zip(cases, regions, strict=True) if box is not None]
        if not self._cases:
            raise ValueError("corrective learning needs a case in which fusion found a structure, got none")
        self._settings = settings

    def places(self, source: torch.Generator) -> list[int]:
        """Which cases make a batch; none twice, as long as there are enough."""
        count, batch = len(self._cases), self._settings.batch
        order = [torch.randperm(count, generator=source) for _ in range(-(-batch // count))]
        return torch.cat(order)[:batch].tolist()

    def name(self, place: int) -> str:
        """Id of a case."""
        return self._cases[place][0].id

    def sample(self, place: int, source: torch.Generator, device: torch.device | str) -> Stack:
        """A case, or a patch of it, changed at random; `source` is on the CPU."""
        case, box = self._cases[place]
        box, how = self.part(case, box, source), self._settings.augmentation
        stack = stack_of(case, box, device)
        maps = random_maps(tuple(stack.image.shape[2:]), how, source, device=device)
        return stack.at(maps).repainted(how, source)

    def part(self, case: CorrectionCase, whole: Box, source: torch.Generator) -> Box:
        """The region of a case, or a patch within it."""
        sides = [part.stop - part.start for part in whole]
        if torch.Size(sides).numel() <= self._settings.whole_voxels:
            return whole
        patch = self._settings.patch_side(len(sides))
        room = [max(0, side - patch) for side in sides]
        middle = self._structure(case, whole, source) if torch.rand((), generator=source) < SHOWING else None
        if middle is None:
            first = [int(torch.randint(most + 1, (1,), generator=source)) for most in room]
        else:
            first = [min(max(0, at - patch // 2), most) for at, most in zip(middle, room, strict=True)]
        return tuple(
            slice(part.start + at, part.start + at + min(patch, side))
            for part, at, side in zip(whole, first, sides, strict=True)
        )

    @staticmethod
    def _structure(case: CorrectionCase, whole: Box, source: torch.Generator) -> list[int] | None:
        """A voxel of a structure in the region, counted from its first; None where there is none."""
        labels = case.labels[whole]
        present = [value for value in torch.unique(labels).tolist() if value]
        if not present:
            return None
        value = present[int(torch.randint(len(present), (1,), generator=source))]
        voxels = (labels == value).nonzero()
        found: list[int] = voxels[int(torch.randint(len(voxels), (1,), generator=source))].tolist()
        return found


def stack_of(case: CorrectionCase, box: Box, device: torch.device | str) -> Stack:
    """A part of a case as it is."""
    image = case.image[box][None, None].to(device).float()
    fused = case.probabilities[(slice(1, None), *box)].to(device).float()
    structures = torch.arange(1, len(fused) + 1, device=device).view(-1, *[1] * case.image.ndim)
    truth = (case.labels[box].to(device) == structures).float()
    return Stack(image, torch.ones_like(image), torch.cat([fused, truth])[None])
