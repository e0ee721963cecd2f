"""What a voxel looks like and where it lies, in numbers that no increasing change of contrast alters."""

from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from covoxel.fusion.windows import locally_normalised, window_mean

_SAMPLE = 100_000
_SLAB = 2**20  # voxels
_FLAT = 1e-3  # voxels
_STEP = 1e-4
_OFF_STEP = 0.37  # means of ranks are fractions of small numbers: away from the edges of the steps

MARGIN = 6
"""Voxels around the voxel that its descriptors depend on."""

_VIEWS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda image, inside: image,
    lambda image, inside: window_mean(image, inside, 1),
    lambda image, inside: window_mean(image, inside, 2),
    lambda image, inside: locally_normalised(image, inside, MARGIN),
)
"""The intensity, its mean nearby and a little farther, and its contrast with what is around."""

DESCRIPTORS = len(_VIEWS)


def descriptors(image: Tensor, inside: Tensor, voxels: Tensor, rows: slice = slice(None)) -> Tensor:
    """Ranks, `(row, descriptor)` in 0 to 1, of the intensities at and around voxels among those of the same image.

    Intensities are replaced by their rank among the voxels first, and each view of them again by its rank. Memory: 20
    bytes a voxel of the image, 40 a voxel described, and what slabs of 2^20 voxels take.

    Parameters
    ----------
    image
        `(*shape)` intensities.
    inside
        `(*shape)` bool, the voxels with an intensity; those beyond are not looked at.
    voxels
        `(*shape)` bool, the m voxels to describe; ranks are among those of them that are inside.
    rows
        Which of the m are wanted.
    """
    ordered = _ordered(image[voxels & inside])
    slabs = list(_slabs(tuple(image.shape)))
    ranks = torch.cat([_rank(image[part], ordered).masked_fill_(~inside[part], 0.5) for part, _, _ in slabs])
    parts = [_views(ranks[wide], inside[wide], voxels[part], own) for part, wide, own in slabs]
    counted = inside[voxels]
    views = (torch.cat(own) for own in zip(*parts, strict=True))
    return torch.stack([_rank(view[rows], _ordered(view[counted])) for view in views], 1)


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Rows of an image, the same with a margin, and where among those they are."""
    rows = max(1, _SLAB * shape[0] // max(1, prod(shape)))
    for start in range(0, shape[0], rows):
        part = slice(start, min(start + rows, shape[0]))
        wide = slice(max(0, part.start - MARGIN), min(shape[0], part.stop + MARGIN))
        yield part, wide, slice(part.start - wide.start, part.stop - wide.start)


def _views(ranks: Tensor, inside: Tensor, voxels: Tensor, own: slice) -> list[Tensor]:
    """Each view at the voxels, `(m,)`, in steps; they are of the rows `own` of the ranks."""
    within = inside[None, None].to(ranks.dtype)
    return [_stepped(view(ranks[None, None], within)[0, 0][own][voxels]) for view in _VIEWS]


class Places:
    """Coordinates of voxels, standardised over those that are described, and their products.

    Parameters
    ----------
    voxels
        `(*shape)` bool, those that are described.
    """

    def __init__(self, voxels: Tensor) -> None:
        self._shape = tuple(voxels.shape)
        self._flat = voxels.flatten().nonzero()[:, 0]
        along = [self._axis(self._flat, axis) for axis in range(len(self._shape))]
        self._mean = torch.stack([own.mean() for own in along])
        self._spread = torch.stack([own.std(correction=0) for own in along]).clamp(min=_FLAT)

    def __len__(self) -> int:
        return len(self._flat)

    def order(self, flat: Tensor) -> Tensor:
        """Which of the described voxels these are, by their place in the flattened image."""
        return torch.searchsorted(self._flat, flat)

    def voxels(self, rows: slice) -> Tensor:
        """Indices, `(row, n)`, of some of the voxels."""
        flat, axes = self._flat[rows], []
        for side in reversed(self._shape):
            axes.append(flat % side)
            flat = flat // side
        return torch.stack(axes[::-1], 1)

    def of(self, rows: slice | Tensor) -> Tensor:
        """Places, `(row, n + n (n + 1) / 2)`, of some of the voxels."""
        at = torch.stack([self._axis(self._flat[rows], axis) for axis in range(len(self._shape))], 1)
        at = (at - self._mean) / self._spread
        first, second = torch.triu_indices(at.shape[1], at.shape[1], device=at.device)
        return torch.cat([at, at[:, first] * at[:, second]], 1)

    def _axis(self, flat: Tensor, axis: int) -> Tensor:
        along = flat // prod(self._shape[axis + 1 :]) % self._shape[axis]
        return along.to(torch.get_default_dtype())


def _stepped(values: Tensor) -> Tensor:
    """Values in steps far above rounding, so that those equal but for it have the same rank."""
    return (values / _STEP + _OFF_STEP).round_()


def _ordered(values: Tensor) -> Tensor:
    """The values in ascending order, or as many of them as a rank needs."""
    return values[:: max(1, len(values) // _SAMPLE)].sort().values


def _rank(values: Tensor, ordered: Tensor) -> Tensor:
    """Share of `ordered` that is smaller than each of `values`, ties by half; 0.5 where there is none to compare."""
    if not len(ordered):
        return torch.full_like(values, 0.5)
    distinct, times = torch.unique_consecutive(ordered, return_counts=True)
    # Of each distinct value, and of what lies between two of them: twice the number of smaller ones, ties by half.
    up_to = functional.pad(times.cumsum(0), (1, 0))
    twice = torch.stack([2 * up_to, functional.pad(up_to[1:] + up_to[:-1], (0, 1))])
    place = torch.searchsorted(distinct, values.contiguous())
    equal = distinct[place.clamp(max=len(distinct) - 1)] == values
    return twice[equal.long(), place].to(values.dtype).div_(2 * len(ordered))
