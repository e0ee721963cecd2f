"""Canonical orientation: the closest to RAS that flips and turns reach, without interpolation."""

from itertools import permutations

import numpy as np

from covoxel.preprocessing.lattice import copy_onto
from covoxel.spatial import Grid, Image


def canonical(image: Image) -> Image:
    """The image with its axes turned and flipped so that i, j, k run closest to R, A, S (R, A in 2-D).

    No value changes and every voxel stays where it is in the world; `copy_onto(canonical(image), image.grid)` is the
    image again, bit for bit.
    """
    return copy_onto(image, canonical_grid(image.grid))


def canonical_grid(grid: Grid) -> Grid:
    """The grid of `canonical`; a grid that is canonical is returned as it is.

    Axes are assigned to R, A, S so that the sum of the absolute cosines is largest; of equal assignments the one that
    turns least is taken.
    """
    n = grid.ndim
    cosines = grid.ras_from_voxel[:n, :n] / grid.spacing_mm
    # order[d] is the voxel axis that will run along world axis d; permutations() begins with the identity.
    order = max(permutations(range(n)), key=lambda p: round(sum(abs(cosines[d, a]) for d, a in enumerate(p)), 9))
    signs = [1 if cosines[d, a] >= 0 else -1 for d, a in enumerate(order)]
    if list(order) == list(range(n)) and min(signs) > 0:
        return grid
    first = np.zeros(n)
    matrix = np.eye(n + 1)
    for d, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[:n, d] = sign * grid.ras_from_voxel[:n, axis]
        first[axis] = 0 if sign > 0 else grid.shape[axis] - 1
    matrix[:n, n] = grid.to_ras(first)
    return Grid(tuple(grid.shape[axis] for axis in order), matrix)
