"""Gathering evidence: atlases and their label maps, warped onto one fixed image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.spatial import Image, Transform, sample


def gather_evidence(
    fixed: Image, moving: Sequence[Image], label_maps: Sequence[Image], transforms: Sequence[Transform]
) -> Evidence:
    """Evidence of atlases about `fixed`: each image and its labels warped by its transform, labels linearly.

    Parameters
    ----------
    fixed
        The image to label; everything is computed on its grid and device.
    moving
        Intensities of the atlases, each on its own grid.
    label_maps
        Integer label maps of the atlases, each on the grid of its image. All label values met become `values`.
    transforms
        From points of `fixed` to points of each atlas.

    Raises
    ------
    ValueError
        If the counts differ, or a label map is on another grid than its image.
    """
    if not len(moving) == len(label_maps) == len(transforms) > 0:
        raise ValueError(
            "moving, label_maps and transforms must be as many, at least one, "
            f"got {len(moving)}, {len(label_maps)}, {len(transforms)}"
        )
    device = fixed.data.device
    values = torch.unique(torch.cat([torch.zeros(1, dtype=torch.int64), *(_values(m) for m in label_maps)]))
    shape, count = fixed.grid.shape, len(moving)
    moved = torch.empty((count, *shape), device=device)
    labels = torch.empty((count, len(values), *shape), device=device)
    valid = torch.empty((count, *shape), dtype=torch.bool, device=device)
    for index, (image, label_map, transform) in enumerate(zip(moving, label_maps, transforms, strict=True)):
        if not image.grid.isclose(label_map.grid):
            raise ValueError(f"label map {index} must lie on the grid of its image {image.grid}, got {label_map.grid}")
        coordinates = transform.moving_coordinates_vox(image.grid, device)
        inside = _inside(coordinates, image.grid.shape)
        indicators = label_map.data.to(device)[None] == values.to(device).view(-1, *[1] * len(shape))
        stacked = torch.cat([image.data.to(device)[None].float(), indicators.float()])
        values_there = sample(stacked[None], coordinates)[0]
        moved[index] = values_there[0]
        labels[index] = values_there[1:].masked_fill_(~inside, 0.0)
        labels[index, 0].masked_fill_(~inside, 1.0)
        valid[index] = inside
    return Evidence(fixed.data.float(), moved, labels, values.to(device), valid)


def _values(label_map: Image) -> Tensor:
    values: Tensor = label_map.data.unique()  # type: ignore[no-untyped-call]
    return values.cpu().long()


def _inside(coordinates_vox: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Whether points `(1, n, *fixed_shape)` lie inside the voxels (up to their outer faces) of a grid of `shape`."""
    inside = torch.ones(coordinates_vox.shape[2:], dtype=torch.bool, device=coordinates_vox.device)
    for axis, side in enumerate(shape):
        inside &= (coordinates_vox[0, axis] >= -0.5) & (coordinates_vox[0, axis] <= side - 0.5)
    return inside
