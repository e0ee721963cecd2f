"""Finite differences in voxels, and the voxels whose differences a mask lets count."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from covoxel.losses.base import masked_mean


def central(x: Tensor) -> Tensor:
    """Central differences per voxel, `(batch, channel * n, *shape)`: for each axis in turn, all channels.

    One-sided at the border, 0 along an axis of one voxel.
    """
    axes = range(2, x.ndim)
    return torch.cat([torch.gradient(x, dim=d)[0] if x.shape[d] > 1 else torch.zeros_like(x) for d in axes], 1)


def everywhere(mask: Tensor) -> Tensor:
    """Weight of a central difference: the product over its voxel and the two beside it along each axis, as `mask`."""
    inside = mask
    for axis in range(2, mask.ndim):
        side = mask.shape[axis]
        if side > 1:
            first, last = mask.narrow(axis, 0, 1), mask.narrow(axis, side - 1, 1)
            before = torch.cat([first, mask.narrow(axis, 0, side - 1)], axis)
            after = torch.cat([mask.narrow(axis, 1, side - 1), last], axis)
            inside = inside * before * after
    return inside


def slopes(field: Tensor, mask: Tensor | None) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First differences along each axis of more than one voxel: axis (from 0), difference and its weight."""
    for axis in range(field.ndim - 2):
        if field.shape[2 + axis] > 1:
            yield axis, field.diff(dim=2 + axis), pairwise(weights(field, mask), axis)


def pairwise(mask: Tensor, axis: int) -> Tensor:
    """Product of the weights of neighbours along `axis` (from 0)."""
    side = mask.shape[2 + axis]
    return mask.narrow(2 + axis, 0, side - 1) * mask.narrow(2 + axis, 1, side - 1)


def weights(field: Tensor, mask: Tensor | None) -> Tensor:
    """`mask` for every sample of `field`, `(batch, 1, *shape)`; ones by default.

    Raises
    ------
    ValueError
        If the mask lies on another grid or has channels.
    """
    shape = (field.shape[0], 1, *field.shape[2:])
    if mask is None:
        return field.new_ones(()).expand(shape)
    if mask.shape[1:] != shape[1:] or mask.shape[0] not in (1, shape[0]):
        raise ValueError(f"mask must be {shape}, or its first side 1, got {tuple(mask.shape)}")
    return mask.to(field.dtype).expand(shape)


def lengths(field: Tensor, spacing_mm: Sequence[float] | None) -> Tensor:
    """Spacing along each axis, `(n,)`, on the device of `field`; ones by default."""
    n = field.ndim - 2
    if spacing_mm is None:
        return field.new_ones(n)
    if len(spacing_mm) != n or min(spacing_mm) <= 0:
        raise ValueError(f"spacing_mm must be {n} positive numbers, got {list(spacing_mm)}")
    return field.new_tensor([float(s) for s in spacing_mm])


def mean_square(vectors: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """Mean over voxels of the squared length of `vectors`, `(batch, n, *shape)` times `scale` `(n,)`; `(batch,)`."""
    scaled = vectors * scale.view(-1, *[1] * (vectors.ndim - 2))
    return masked_mean((scaled**2).sum(1, keepdim=True), mask)
