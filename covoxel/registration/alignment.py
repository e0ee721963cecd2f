"""Alignment before the deformation: a matrix for each pair, rough and quick."""

import numpy as np
from numpy.typing import NDArray

from covoxel.registration.affine import affine
from covoxel.registration.base import MovingBatch
from covoxel.registration.model import Alignment
from covoxel.registration.objective import Freedom
from covoxel.spatial import Grid, Image, Transform

_VOXELS = 10_000
"""Finest level of the affine part: the deformation makes good what is left over."""


def align(fixed: Image, moving: MovingBatch, how: Alignment) -> list[Transform]:
    """Transforms without displacement, as a network was trained to expect them.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    how
        "none": the headers hold. "centre": the middle of each field of view comes onto that of the fixed image, if
        need be half a voxel beside it, so that equal voxels fall on voxels.
        "affine": by `coarse_affine`.
    """
    if how == "affine":
        return coarse_affine(fixed, moving)
    if how == "centre":
        return [Transform(fixed.grid, _centre_on_centre(fixed.grid, grid)) for grid in moving.grids]
    if how == "none":
        return [Transform.identity(fixed.grid) for _ in moving.grids]
    raise ValueError(f"alignment must be none, centre or affine, got {how!r}")


def coarse_affine(
    fixed: Image,
    moving: MovingBatch,
    *,
    freedom: Freedom = "affine",
    similarity: str = "lncc",
    search: bool = True,
) -> list[Transform]:
    """The engine `affine` with fewer steps on larger cells, for a deformation to follow."""
    return affine(
        fixed,
        moving,
        freedom=freedom,
        similarity=similarity,
        search=search,
        iterations=(40, 20),
        finest_voxels=_VOXELS,
    )


def _centre_on_centre(fixed: Grid, moving: Grid) -> NDArray[np.float64]:
    """Shift of the middle of `fixed` onto that of `moving`.

    By half a voxel less where voxels then fall on voxels, so that nothing has to be interpolated.
    """
    n = fixed.ndim
    matrix = np.eye(n + 1)
    matrix[:n, n] = moving.centre_ras - fixed.centre_ras
    index = moving.voxel_from_ras @ matrix @ fixed.ras_from_voxel
    turn = np.round(index[:n, :n])
    if np.allclose(index[:n, :n], turn, atol=1e-4) and abs(np.linalg.det(turn)) == 1:
        matrix[:n, n] += moving.ras_from_voxel[:n, :n] @ (np.round(index[:n, n]) - index[:n, n])
    return matrix
