"""Windows: boxes of a grid of voxels, and how work on a grid is cut into them."""

from collections.abc import Iterator
from math import prod

from torch import Tensor

Window = tuple[slice, ...]
"""A box of a grid, one slice with a start and a stop for each axis."""


def whole_window(shape: tuple[int, ...]) -> Window:
    """All of a grid."""
    return tuple(slice(0, side) for side in shape)


def voxels_in(window: Window) -> int:
    """How many voxels a window has."""
    return prod(part.stop - part.start for part in window)


def bounding_window(mask: Tensor, margin: int = 0) -> Window | None:
    """Smallest window around the true voxels of `mask`, `margin` voxels larger where there are any; None if empty."""
    window = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = mask.any(dim=others).nonzero()
        if not len(hit):
            return None
        first, last = int(hit[0]), int(hit[-1])
        window.append(slice(max(0, first - margin), min(mask.shape[axis], last + margin + 1)))
    return tuple(window)


def tiles(mask: Tensor, *, voxels: int, size: int, halo: int = 0, among: Tensor | None = None) -> Iterator[Window]:
    """Windows that together hold every true voxel once.

    Each holds at most `voxels` of them and `size` voxels in all, with the `halo` voxels on every side, unless it is
    a single voxel. `among`: what is counted in the halo, those of `mask` if None.
    """
    counted = mask if among is None else among
    pending = [bounding_window(mask)]
    while pending:
        window = pending.pop()
        if window is None:
            continue
        around = counted[grown(window, halo, tuple(mask.shape))]
        if mask[window].numel() == 1 or (around.numel() <= size and int(around.sum()) <= voxels):
            yield window
        else:
            pending += [_inner(mask, half) for half in reversed(halves(window))]


def grown(window: Window, by: int, shape: tuple[int, ...]) -> Window:
    """The window and `by` voxels on every side, within `shape`."""
    return tuple(slice(max(0, w.start - by), min(side, w.stop + by)) for w, side in zip(window, shape, strict=True))


def halves(window: Window) -> list[Window]:
    """Both halves of a window, cut across its longest axis."""
    axis = max(range(len(window)), key=lambda a: window[a].stop - window[a].start)
    start, stop = window[axis].start, window[axis].stop
    middle = (start + stop) // 2
    return [(*window[:axis], part, *window[axis + 1 :]) for part in (slice(start, middle), slice(middle, stop))]


def windows_of(shape: tuple[int, ...], voxels: int) -> Iterator[Window]:
    """Windows that hold every voxel of a grid once, each of a limited number of voxels, at least one."""
    pending = [whole_window(shape)]
    while pending:
        window = pending.pop()
        if voxels_in(window) <= max(1, voxels):
            yield window
        else:
            pending += reversed(halves(window))


def within(window: Window, outer: Window) -> Window:
    """A window counted from the first voxel of another."""
    return tuple(slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, outer, strict=True))


def beyond(window: Window, origin: Window) -> Window:
    """A window that was counted from the first voxel of another, counted from that of the grid."""
    return tuple(slice(w.start + o.start, w.stop + o.start) for w, o in zip(window, origin, strict=True))


def _inner(mask: Tensor, window: Window) -> Window | None:
    """Smallest window around the true voxels within `window`; None if there are none."""
    found = bounding_window(mask[window])
    return None if found is None else beyond(found, window)
