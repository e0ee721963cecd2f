"""Spoilt sources: another source with its image, its atlases or their places changed, as it is read."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.source import Source, T
from covoxel.fusion.tiling import Window, voxels_in
from covoxel.spatial import corners, sample, voxel_coordinates
from covoxel.spatial.smoothing import refine

_EXACT = 2**21
"""Voxels of a window up to which it is looked where each of them comes from."""

Move = Callable[[int, Window], Tensor]
"""`f(atlas, window) -> displacement (n, *window)` in voxels."""


class _Spoilt(Source):
    """A source that reads another one.

    Parameters
    ----------
    source
        What is read.
    fixed
        Another image; None: the same.
    """

    def __init__(self, source: Source, fixed: Tensor | None = None) -> None:
        super().__init__(source.fixed if fixed is None else fixed, source.values, source.atlases)
        self.source = source

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """As that of the other source."""
        return self.source.look(atlas, window)

    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """As those of the other source."""
        return self.source.indicators(atlas, window, values)

    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """As those of the other source."""
        return self.source.indicators_at(atlas, voxels)

    def present(self, window: Window) -> Tensor:
        """As those of the other source."""
        return self.source.present(window)


class WithImage(_Spoilt):
    """Another image, of which the atlases say the same."""

    def once(self, what: Any, make: Callable[[], T]) -> T:
        """What is known of the votes is known of them here."""
        return self.source.once(what, make) if what == "votes" else super().once(what, make)


class Blind(_Spoilt):
    """All atlases see nothing but some.

    Parameters
    ----------
    source
        What is read.
    seeing
        The atlases that see.
    """

    def __init__(self, source: Source, seeing: Collection[int]) -> None:
        super().__init__(source)
        self._seeing = frozenset(seeing)

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """Valid nowhere, of an atlas that does not see."""
        moved, valid = self.source.look(atlas, window)
        return moved, valid if atlas in self._seeing else torch.zeros_like(valid)


class Flipped(_Spoilt):
    """All atlases are mirrored along an axis.

    Parameters
    ----------
    source
        What is read.
    axis
        Of the image.
    """

    def __init__(self, source: Source, axis: int) -> None:
        super().__init__(source)
        self._axis = axis

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """Mirrored."""
        moved, valid = self.source.look(atlas, self._there(window))
        return moved.flip(self._axis), valid.flip(self._axis)

    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """Mirrored."""
        return self.source.indicators(atlas, self._there(window), values).flip(self._axis + 1)

    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """Those of the voxels that come there."""
        there = voxels.clone()
        there[:, self._axis] = self.shape[self._axis] - 1 - there[:, self._axis]
        return self.source.indicators_at(atlas, there)

    def present(self, window: Window) -> Tensor:
        """Those of the window that comes there."""
        return self.source.present(self._there(window))

    def _there(self, window: Window) -> Window:
        side, own = self.shape[self._axis], window[self._axis]
        return (
            *window[: self._axis],
            slice(side - own.stop, side - own.start),
            *window[self._axis + 1 :],
        )


class Displaced(_Spoilt):
    """Atlases are moved on, each voxel taken from where a displacement says.

    Parameters
    ----------
    source
        What is read.
    move
        Where from; beyond the border of the image, from the border.
    """

    def __init__(self, source: Source, move: Move) -> None:
        super().__init__(source)
        self._move = move

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """Interpolated linearly once more; valid where most of a voxel is."""
        coordinates, box = self._there(atlas, window)
        moved, valid = self.source.look(atlas, box)
        both = sample(torch.stack([moved, valid.to(moved.dtype)])[None], coordinates)[0]
        return both[0], both[1] > 0.5

    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """Interpolated linearly once more."""
        coordinates, box = self._there(atlas, window)
        return sample(self.source.indicators(atlas, box, values)[None], coordinates)[0]

    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """Interpolated linearly once more."""
        coordinates = torch.stack([self._at(atlas, voxel) for voxel in voxels.tolist()], 1)
        index, weight = corners(coordinates, self.shape)
        axes, rest = [], index.flatten()
        for side in reversed(self.shape):
            axes.append(rest % side)
            rest = rest // side
        found = self.source.indicators_at(atlas, torch.stack(axes[::-1], 1))
        return (found.view(len(found), *index.shape) * weight).sum(1)

    def present(self, window: Window) -> Tensor:
        """Those of where any atlas comes from; of a large window, all that there are."""
        if voxels_in(window) > _EXACT:
            return torch.ones(len(self.values), dtype=torch.bool)
        found = [self.source.present(self._there(atlas, window)[1]) for atlas in range(self.atlases)]
        return torch.stack(found).any(0)

    def _at(self, atlas: int, voxel: list[int]) -> Tensor:
        """Coordinates `(n,)` of where a voxel comes from."""
        window = tuple(slice(at, at + 1) for at in voxel)
        return self._move(atlas, window).flatten(1)[:, 0].to(self.device) + torch.tensor(voxel, device=self.device)

    def _there(self, atlas: int, window: Window) -> tuple[Tensor, Window]:
        """Coordinates `(1, n, *window)` of where each voxel comes from, from the first of the box that holds them."""
        here = voxel_coordinates(tuple(own.stop - own.start for own in window), self.fixed.float())[0]
        move = self._move(atlas, window).to(here)
        there, box = [], []
        for coordinate, shift, own, side in zip(here, move, window, self.shape, strict=True):
            at = coordinate + own.start + shift
            low = min(max(int(at.min().floor()), 0), side - 1)
            box.append(slice(low, min(max(int(at.max().floor()) + 2, low + 1), side)))
            there.append(at - low)
        return torch.stack(there)[None], tuple(box)


@dataclass(frozen=True, eq=False)
class Bends:
    """Smooth displacements that are worked out where they are wanted.

    Parameters
    ----------
    nodes
        `(count, n, *cells)`, displacements at the middle of large cells, between which they are linear.
    shape
        Of the image.
    """

    nodes: Tensor
    shape: tuple[int, ...]

    def of(self, number: int, window: Window) -> Tensor:
        """One of them, `(n, *window)`."""
        axes = []
        for own, side, cells in zip(window, self.shape, self.nodes.shape[2:], strict=True):
            axes.append((torch.arange(own.start, own.stop) + 0.5) * (cells / side) - 0.5)
        return sample(self.nodes[number][None], torch.stack(torch.meshgrid(*axes, indexing="ij"))[None])[0]

    def times(self, factor: float) -> "Bends":
        """The same, larger or smaller."""
        return Bends(self.nodes * factor, self.shape)

    def spread(self) -> float:
        """Standard deviation over all of them; one component of one is in memory."""
        factors = [side / cells for side, cells in zip(self.shape, self.nodes.shape[2:], strict=True)]
        sums = torch.zeros(3, dtype=torch.float64)
        for component in self.nodes.flatten(0, 1):
            bend = refine(component[None, None], factors, self.shape).double()
            sums += torch.stack([torch.tensor(float(bend.numel())).double(), bend.sum(), bend.square().sum()])
        count, total, squares = sums.tolist()
        return float(max(0.0, (squares - total**2 / count) / max(1.0, count - 1)) ** 0.5)
