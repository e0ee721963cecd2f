"""Mid-space: the pose, size and shear half-way between all cases, and the grid of a template there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm, logm

from covoxel.atlas.placement import inverse, steady
from covoxel.preprocessing.orientation import canonical_grid
from covoxel.spatial import Grid

_STEPS = 50
_CLOSE_MM = 1e-10


@dataclass(frozen=True, eq=False)
class MidSpace:
    """Grid of a template in the mid-space, and how points come there.

    Parameters
    ----------
    grid
        Axes along R, A, S; spacing and field of view are medians over the cases.
    reference_from_template
        `(n + 1, n + 1)` matrix from points of the mid-space to points of the space the cases were brought to before.
    moving_from_template
        Matrices to each case, by id; their exponential barycentre is the identity.
    """

    grid: Grid
    reference_from_template: NDArray[np.float64]
    moving_from_template: Mapping[str, NDArray[np.float64]]


def barycentre(matrices: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Exponential barycentre of affine matrices `(n + 1, n + 1)`: the M with `mean(log(M^-1 M_i)) = 0`.

    Unlike the mean of the logarithms it does not depend on the space in which the matrices are given: multiplied by
    any matrix from either side, so is their barycentre.

    Raises
    ------
    ValueError
        If there is none, or the matrices lie too far apart: half a turn, or mirrored.

    References
    ----------
    Pennec and Arsigny, Exponential barycenters of the canonical Cartan connection and invariant means on Lie groups,
    2013.
    """
    if not matrices:
        raise ValueError("matrices must be one or more, got none")
    middle = np.asarray(matrices[0], dtype=np.float64)
    for _ in range(_STEPS):
        back = np.linalg.inv(middle)
        step = np.mean([_log(back @ matrix) for matrix in matrices], axis=0)
        middle = middle @ expm(step)
        if np.abs(step).max() < _CLOSE_MM:
            return steady(middle)
    raise ValueError(f"matrices must lie nearer to each other to have a mean; {_STEPS} steps did not find one")


def mid_space(
    moving_from_reference: Mapping[str, NDArray[np.float64]], grids: Mapping[str, Grid], grid: Grid | None = None
) -> MidSpace:
    """The mid-space of cases by their matrices from any common reference and by their own grids; no case is favoured.

    Parameters
    ----------
    moving_from_reference
        `(n + 1, n + 1)` matrices, RAS+ mm, by id.
    grids
        Grid of each case, by id.
    grid
        Grid to keep; by default one is laid over the median field of view.

    Raises
    ------
    ValueError
        If the matrices lie too far apart to have a barycentre.
    """
    names = sorted(moving_from_reference)
    matrices = [moving_from_reference[name] for name in names]
    # Sorted by content, sums do not depend on the names.
    back = inverse(barycentre(sorted(matrices, key=lambda matrix: matrix.tobytes())))
    placed = {name: steady(matrix @ back) for name, matrix in zip(names, matrices, strict=True)}
    return MidSpace(grid or _median_grid([(placed[name], grids[name]) for name in names]), back, placed)


def _log(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.linalg.det(matrix) <= 0:
        raise ValueError("matrices must not mirror one another, got a determinant of zero or less")
    log = np.asarray(logm(matrix))
    if np.abs(log.imag).max() > 1e-6 or not np.isfinite(log.real).all():
        raise ValueError("matrices must lie less than half a turn apart")
    return log.real


def _median_grid(placed: Sequence[tuple[NDArray[np.float64], Grid]]) -> Grid:
    """Grid along R, A, S with the median spacing, over the median box of the fields of view in the mid-space."""
    n = placed[0][1].ndim
    spacing = np.median([canonical_grid(grid).spacing_mm for _, grid in placed], axis=0)
    boxes = [_box(inverse(matrix), grid) for matrix, grid in placed]
    low, high = np.median([low for low, _ in boxes], axis=0), np.median([high for _, high in boxes], axis=0)
    shape = tuple(int(side) for side in np.maximum(1, np.round((high - low) / spacing)))
    matrix = np.diag([*spacing, 1.0])
    matrix[:n, n] = (low + high) / 2 - spacing * (np.asarray(shape) - 1) / 2
    return Grid(shape, matrix)


def _box(template_from_moving: NDArray[np.float64], grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and largest coordinates, mm, of the voxel edges of a case in the mid-space."""
    n = grid.ndim
    corners = grid.to_ras([[side * end - 0.5 for side, end in zip(grid.shape, ends, strict=True)] for ends in _ends(n)])
    there = corners @ template_from_moving[:n, :n].T + template_from_moving[:n, n]
    return there.min(0), there.max(0)


def _ends(n: int) -> list[tuple[int, ...]]:
    return list(product((0, 1), repeat=n))
