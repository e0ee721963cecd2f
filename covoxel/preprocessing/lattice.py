"""Grids that share their voxels: turned, flipped, cropped or padded copies of one another need no interpolation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from covoxel.spatial import Grid, Image

TOLERANCE_VOX = 1e-3
"""How far voxel centres may lie apart, in voxels, and still be the same voxel."""


@dataclass(frozen=True)
class Lattice:
    """Where the voxels of one grid are in another: `index[axes[a]] = signs[a] * onto_index[a] + offset[axes[a]]`.

    Parameters
    ----------
    axes
        For each axis of the grid copied onto, the axis of the grid copied from.
    signs
        1, or -1 where that axis is flipped.
    offset
        Index, along each axis of the grid copied from, of the first voxel copied onto.
    """

    axes: tuple[int, ...]
    signs: tuple[int, ...]
    offset: tuple[int, ...]


def shared_lattice(grid: Grid, onto: Grid) -> Lattice | None:
    """How the voxels of `onto` are found among those of `grid` without interpolation; None where they are not there.

    Corners of `onto` must lie within a thousandth of a voxel of voxels of `grid` (continued beyond its border).
    """
    if grid.ndim != onto.ndim:
        return None
    n = grid.ndim
    index_from_onto = grid.voxel_from_ras @ onto.ras_from_voxel
    linear, offset = np.round(index_from_onto[:n, :n]), np.round(index_from_onto[:n, n])
    if not (np.abs(linear).sum(0) == 1).all() or not (np.abs(linear).sum(1) == 1).all():
        return None
    corners = np.stack(np.meshgrid(*[(0, side - 1) for side in onto.shape], indexing="ij"), -1)
    error = corners @ (index_from_onto[:n, :n] - linear).T + (index_from_onto[:n, n] - offset)
    # A side of one voxel has no far corner that would show a wrong direction.
    loose = np.abs(index_from_onto[:n, :n] - linear).max()
    if np.abs(error).max() > TOLERANCE_VOX or loose > TOLERANCE_VOX:
        return None
    axes = np.abs(linear).argmax(0)
    return Lattice(
        axes=tuple(int(a) for a in axes),
        signs=tuple(int(linear[a, column]) for column, a in enumerate(axes)),
        offset=tuple(int(o) for o in offset),
    )


def copy_onto(image: Image, onto: Grid, *, fill: float = 0) -> Image:
    """Values of `image` on a grid that shares its voxels: an exact copy, `fill` where `image` has none.

    Parameters
    ----------
    image
        Values of any type.
    onto
        A turned, flipped, cropped or padded version of the image's grid.
    fill
        Value of voxels of `onto` outside the image.

    Raises
    ------
    ValueError
        If the grids do not share their voxels.
    """
    lattice = shared_lattice(image.grid, onto)
    if lattice is None:
        raise ValueError(f"onto must share the voxels of the image's grid {image.grid}, got {onto}")
    return Image(copy_voxels(image.data, lattice, onto.shape, fill=fill), onto)


def copy_voxels(data: Tensor, lattice: Lattice, shape: tuple[int, ...], *, fill: float = 0) -> Tensor:
    """Values of `data` `(..., *grid.shape)` at the voxels of a grid of `shape` on its lattice; leading axes stay."""
    n = len(shape)
    leading = data.ndim - n
    turned = data.permute(*range(leading), *(leading + axis for axis in lattice.axes))
    result = turned.new_full((*turned.shape[:leading], *shape), fill)
    target: list[slice] = []
    for a, side in enumerate(shape):
        length = turned.shape[leading + a]
        first, sign = lattice.offset[lattice.axes[a]], lattice.signs[a]
        if sign < 0:
            turned = turned.flip(leading + a)
            first = length - 1 - first
        start, stop = max(0, -first), min(side, length - first)
        if start >= stop:
            return result
        turned = turned.narrow(leading + a, first + start, stop - start)
        target.append(slice(start, stop))
    at: Any = (..., *target)
    result[at] = turned
    return result
