"""Where atlases disagree: the only voxels at which a rule has anything to decide."""

from collections.abc import Iterator

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence

AGREEMENT_TOLERANCE = 1e-6


def disagreement(evidence: Evidence) -> Tensor:
    """Mask, `(*shape)`, of the voxels at which two valid atlases differ in any label by more than 1e-6."""
    least = torch.full_like(evidence.labels[0], 2.0)
    most = torch.full_like(evidence.labels[0], -1.0)
    for labels, valid in zip(evidence.labels, evidence.valid, strict=True):
        torch.minimum(least, torch.where(valid, labels, 2.0), out=least)
        torch.maximum(most, torch.where(valid, labels, -1.0), out=most)
    return (most - least > AGREEMENT_TOLERANCE).any(0)


def bounding_window(mask: Tensor, margin: int = 0) -> tuple[slice, ...] | None:
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


def tiles(mask: Tensor, *, voxels: int, size: int, halo: int = 0) -> Iterator[tuple[slice, ...]]:
    """Windows that together hold every true voxel once.

    Each holds at most `voxels` of them and `size` voxels in all, its halo of so many voxels on every side counted with
    it, unless it is a single voxel.
    """
    pending = [bounding_window(mask)]
    while pending:
        window = pending.pop()
        if window is None:
            continue
        around = mask[grown(window, halo, mask.shape)]
        if mask[window].numel() == 1 or (around.numel() <= size and int(around.sum()) <= voxels):
            yield window
        else:
            pending += [_inner(mask, half) for half in reversed(_halves(window))]


def grown(window: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The window and so many voxels on every side, within `shape`."""
    return tuple(slice(max(0, w.start - by), min(side, w.stop + by)) for w, side in zip(window, shape, strict=True))


def _halves(window: tuple[slice, ...]) -> list[tuple[slice, ...]]:
    """Both halves of a window, cut across its longest axis."""
    axis = max(range(len(window)), key=lambda a: window[a].stop - window[a].start)
    start, stop = window[axis].start, window[axis].stop
    middle = (start + stop) // 2
    return [(*window[:axis], part, *window[axis + 1 :]) for part in (slice(start, middle), slice(middle, stop))]


def _inner(mask: Tensor, window: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """Smallest window around the true voxels within `window`; None if there are none."""
    found = bounding_window(mask[window])
    if found is None:
        return None
    return tuple(slice(o.start + f.start, o.start + f.stop) for o, f in zip(window, found, strict=True))
