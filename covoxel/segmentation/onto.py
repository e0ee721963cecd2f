"""Probabilities of labels brought from the grid where they were said onto the grid where they are wanted."""

from dataclasses import replace

import torch

from covoxel.segmentation.segmented import Segmented, ViewMean
from covoxel.spatial import Grid, voxel_coordinates
from covoxel.spatial.transform import apply_matrix


def onto(segmented: Segmented, grid: Grid) -> Segmented:
    """The same on another grid of the same world, by one linear interpolation; beyond its own is background."""
    if segmented.grid.isclose(grid):
        return segmented
    matrix = torch.tensor(segmented.grid.voxel_from_ras @ grid.ras_from_voxel)[None]
    like = segmented.probabilities
    mean = ViewMean(tuple(segmented.values.tolist()), grid, like.device)
    mean.add(like, apply_matrix(matrix.to(like), voxel_coordinates(grid.shape, like)))
    return replace(mean.segmented(), spread=segmented.spread)
