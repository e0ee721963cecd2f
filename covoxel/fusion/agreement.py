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


def slabs(mask: Tensor, *, voxels: int, planes: int) -> Iterator[slice]:
    """Ranges along the first axis that together hold all true voxels, each as many of them and planes at most.

    A single plane may hold more.
    """
    counts = mask.flatten(1).sum(1).tolist()
    start, held = 0, 0
    for plane, count in enumerate(counts):
        if plane > start and (held + count > voxels or plane - start >= planes):
            if held:
                yield slice(start, plane)
            start, held = plane, 0
        held += count
    if held:
        yield slice(start, len(counts))
