"""Registration of what images hold: borders of one value or of noise are cut off before, and the map goes on there."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from covoxel.preprocessing.content import Box
from covoxel.spatial import Grid, Image, Transform


def cut(image: Image, box: Box) -> Image:
    """The part of an image within a box; the image itself if that is all of it."""
    if box.shape == image.grid.shape:
        return image
    return Image(image.data[box.window].contiguous(), image.grid.cropped(box.start, box.shape))


def cut_labels(labels: Tensor, box: Box) -> Tensor:
    """Probabilities `(label, *shape)` within the box of their image."""
    return labels[(slice(None), *box.window)]


def continued(transform: Transform, box: Box, grid: Grid) -> Transform:
    """A transform found on a box of `grid`, on all of it.

    Beyond the box the displacement is that of the nearest voxel in it: nothing is known there, and so it neither jumps
    nor folds at the faces of the box.
    """
    if box.shape == grid.shape:
        return transform
    if transform.displacement_mm is None:
        return replace(transform, grid=grid)
    sides = [(first, whole - first - side) for first, side, whole in zip(box.start, box.shape, grid.shape, strict=True)]
    beyond = [voxels for ends in reversed(sides) for voxels in ends]
    field = functional.pad(transform.displacement_mm[None], beyond, mode="replicate")[0]
    return replace(transform, grid=grid, displacement_mm=field)
