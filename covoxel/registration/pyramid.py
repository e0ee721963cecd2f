"""Pyramids: an image on coarser grids whose cells are as near to cubes as the voxels allow."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from covoxel.registration.base import MovingBatch
from covoxel.spatial import Grid
from covoxel.spatial.smoothing import cell_means, gaussian


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a pyramid.

    Parameters
    ----------
    factors
        Voxels of the full image in a cell, along each axis.
    grid
        Grid of the cell centres.
    fixed
        `(1, 1, *grid.shape)` means over the cells.
    """

    factors: tuple[int, ...]
    grid: Grid
    fixed: Tensor


def cell_factors(grid: Grid, spacing_mm: float) -> tuple[int, ...]:
    """Whole numbers of voxels whose extent comes nearest to `spacing_mm` along each axis."""
    return tuple(int(f) for f in np.maximum(1, np.round(spacing_mm / grid.spacing_mm)))


def cell_grid(grid: Grid, factors: tuple[int, ...]) -> Grid:
    """Grid of the centres of cells of `factors` voxels; the last cell of an axis may be partial."""
    scale = np.asarray(factors, dtype=np.float64)
    n = grid.ndim
    matrix = grid.ras_from_voxel.copy()
    matrix[:n, :n] = matrix[:n, :n] * scale
    matrix[:n, n] = grid.to_ras((scale - 1) / 2)
    return Grid(tuple(int(s) for s in np.ceil(np.asarray(grid.shape) / scale)), matrix)


def level_of(fixed: Tensor, grid: Grid, factors: tuple[int, ...]) -> Level:
    """Level with cells of `factors` voxels of the image `(1, 1, *grid.shape)`."""
    return Level(factors, cell_grid(grid, factors), cell_means(fixed, factors))


def smoothed_moving(moving: MovingBatch, spacing_mm: float) -> Tensor:
    """Moving images, full size, smoothed (in quadrature) to half a voxel of a grid of `spacing_mm`."""
    own = np.max([grid.spacing_mm for grid in moving.grids], axis=0)
    sigma_mm = 0.5 * np.sqrt(np.maximum(0.0, spacing_mm**2 - own**2))
    return gaussian(moving.data, tuple(float(s) for s in sigma_mm / own))
