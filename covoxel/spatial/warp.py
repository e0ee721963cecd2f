"""Sampling at voxel coordinates; the only caller of `grid_sample` in the project."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["linear", "nearest"]
Padding = Literal["border", "zeros"]

_ALIGN_CORNERS = True


def voxel_coordinates(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Index of every voxel, `(1, n, *shape)`, in the type and on the device of `like`."""
    axes = [torch.arange(side, dtype=like.dtype, device=like.device) for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def sample(
    image: Tensor,
    coordinates_vox: Tensor,
    *,
    interpolation: Interpolation = "linear",
    padding: Padding = "border",
) -> Tensor:
    """Values of `image` at voxel coordinates.

    Parameters
    ----------
    image
        `(batch, channel, *image_shape)`, 2-D or 3-D.
    coordinates_vox
        `(batch, n, *output_shape)`; channel c is the index along axis c of `image`.
    interpolation
        "linear" or "nearest".
    padding
        Outside the image: the value at its "border", or "zeros".

    Returns
    -------
    Tensor
        `(batch, channel, *output_shape)`.
    """
    shape = image.shape[2:]
    if coordinates_vox.shape[1] != len(shape):
        raise ValueError(f"coordinates_vox must have {len(shape)} channels, got {coordinates_vox.shape[1]}")
    if padding == "zeros" and min(shape) == 1:
        reach = _reach_of_slices(coordinates_vox, shape, interpolation)
        return reach * sample(image, coordinates_vox, interpolation=interpolation)
    unit = _unit_coordinates(coordinates_vox, shape)
    mode = "bilinear" if interpolation == "linear" else "nearest"
    slabs = _slabs(image, unit)
    if slabs == 1:
        return functional.grid_sample(image, unit, mode, padding, _ALIGN_CORNERS)
    # On the CPU grid_sample is parallel over the batch alone: one image becomes a batch of slabs of the output.
    side = unit.shape[1]
    padded = -(-side // slabs) * slabs
    unit = torch.cat([unit, unit[:, -1:].expand(-1, padded - side, *unit.shape[2:])], 1)
    unit = unit.reshape(slabs, padded // slabs, *unit.shape[2:])
    values = functional.grid_sample(image.expand(slabs, *image.shape[1:]), unit, mode, padding, _ALIGN_CORNERS)
    return values.movedim(1, 0).reshape(1, image.shape[1], padded, *unit.shape[2:-1])[:, :, :side]


def corners(coordinates_vox: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The voxels between which linear interpolation lies, for what has no values to be sampled, such as labels.

    Parameters
    ----------
    coordinates_vox
        `(n, *output_shape)`; channel c is the index along axis c of an image of `shape`, up to whose border they are
        moved.

    Returns
    -------
    tuple of Tensor
        Places in the flattened image, `(2^n, *output_shape)` int64, and their weights, which sum to one.
    """
    index, weight = coordinates_vox.new_zeros((1, *coordinates_vox.shape[1:]), dtype=torch.int64), None
    for coordinate, side in zip(coordinates_vox, shape, strict=True):
        there = coordinate.clamp(0, side - 1)
        low = there.floor()
        share = there - low
        first = low.long()
        pair = torch.stack([first, (first + 1).clamp_(max=side - 1)])
        both = torch.stack([1 - share, share])
        index = (index[:, None] * side + pair[None]).flatten(0, 1)
        weight = both if weight is None else (weight[:, None] * both[None]).flatten(0, 1)
    assert weight is not None
    return index, weight


def _reach_of_slices(coordinates_vox: Tensor, shape: tuple[int, ...], interpolation: Interpolation) -> Tensor:
    """Weight of the image at coordinates off an axis of one voxel, `(batch, 1, *output_shape)`.

    To grid_sample every coordinate lies on the only voxel of such an axis.
    """
    inside = coordinates_vox.new_ones(())
    for axis, side in enumerate(shape):
        offset = coordinates_vox[:, axis : axis + 1]
        if side == 1:
            weight = (1 - offset.abs()).clamp(min=0)
            inside = inside * (weight if interpolation == "linear" else (weight >= 0.5).to(weight))
        else:
            inside = inside * ((offset > -1) & (offset < side)).to(offset)
    return inside


def _unit_coordinates(coordinates_vox: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What grid_sample wants: -1 to 1 between the outer voxel centres, last axis first, `(batch, *output_shape, n)`."""
    planes = [coordinates_vox[:, axis] * (2 / max(side - 1, 1)) - 1 for axis, side in reversed(list(enumerate(shape)))]
    return torch.stack(planes, 1).movedim(1, -1)


def _slabs(image: Tensor, unit: Tensor) -> int:
    needs_grad = torch.is_grad_enabled() and (image.requires_grad or unit.requires_grad)
    if image.device.type != "cpu" or image.shape[0] > 1 or needs_grad or unit[..., 0].numel() < 65536:
        return 1
    return min(torch.get_num_threads(), unit.shape[1])


def warp(
    moving: Tensor,
    displacement_vox: Tensor,
    *,
    interpolation: Interpolation = "linear",
    padding: Padding = "border",
) -> Tensor:
    """Resample `moving` through a displacement on the same grid: `moved(x) = moving(x + u(x))`.

    Parameters
    ----------
    moving
        `(batch, channel, *shape)`.
    displacement_vox
        `(batch, n, *shape)`, from fixed to moving, channel c in voxels along axis c.
    interpolation, padding
        As for `sample`.

    Returns
    -------
    Tensor
        `(batch, channel, *shape)`.
    """
    if moving.shape[2:] != displacement_vox.shape[2:]:
        raise ValueError(
            f"moving {tuple(moving.shape[2:])} and displacement_vox {tuple(displacement_vox.shape[2:])} "
            "must share one grid; use resample for two grids"
        )
    identity = voxel_coordinates(tuple(moving.shape[2:]), displacement_vox)
    return sample(moving, identity + displacement_vox, interpolation=interpolation, padding=padding)
