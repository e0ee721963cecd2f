"""Axes: nnU-Net's arrays are `(channel, k, j, i)`, one slice deep in 2-D, and all images of a data set lie alike."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.preprocessing.lattice import copy_onto
from covoxel.preprocessing.orientation import canonical_grid
from covoxel.preprocessing.restore import restore_probabilities
from covoxel.spatial import Grid, Image

FLAT = 999.0
"""How much farther apart the slices of a 2-D image are said to be than its pixels, as nnU-Net has it."""


def turned(image: Image, canonical: bool) -> Image:
    """The image with axes nearest to RAS, or as it is."""
    grid = canonical_grid(image.grid)
    return image if not canonical or grid is image.grid else copy_onto(image, grid)


def array_of(data: Tensor) -> NDArray[np.generic]:
    """`(1, k, j, i)` of voxels `(i, j, k)`, `(1, 1, j, i)` of voxels `(i, j)`; a view."""
    turned_data = data.permute(*reversed(range(data.ndim)))
    return np.asarray(turned_data.reshape(1, *[1] * (3 - data.ndim), *turned_data.shape).numpy())


def stacked(images: Sequence[Image]) -> NDArray[np.float32]:
    """Channels `(channel, k, j, i)` float32 of images on one grid."""
    found = [np.asarray(array_of(image.data.cpu()), dtype=np.float32) for image in images]
    return np.ascontiguousarray(np.concatenate(found))  # the order in memory decides the last bit of a mean


def spacing_of(grid: Grid) -> list[float]:
    """Millimetres along nnU-Net's three axes."""
    spacing = [float(side) for side in grid.spacing_mm[::-1]]
    return spacing if grid.ndim == 3 else [max(spacing) * FLAT, *spacing]


def back(probabilities: NDArray[np.float32], seen: Grid, wanted: Grid) -> Tensor:
    """Probabilities `(label, k, j, i)` of an image on the grid `seen`, as `(label, *wanted.shape)`."""
    said = torch.from_numpy(np.ascontiguousarray(probabilities.transpose(0, 3, 2, 1)))
    said = said if seen.ndim == 3 else said[..., 0]
    return said if seen is wanted else restore_probabilities(said, seen, wanted)
