"""Displacement fields: units, composition, inversion, Jacobian."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.spatial.grid import Grid
from covoxel.spatial.warp import warp


def displacement_mm_from_vox(displacement_vox: Tensor, grid: Grid) -> Tensor:
    """Displacement in RAS+ mm, `(batch, n, *shape)`, of one in voxels of `grid`."""
    return _turn(displacement_vox, grid.ras_from_voxel, grid)


def displacement_vox_from_mm(displacement_mm: Tensor, grid: Grid) -> Tensor:
    """Displacement in voxels of `grid`, `(batch, n, *shape)`, of one in RAS+ mm."""
    return _turn(displacement_mm, grid.voxel_from_ras, grid)


def _turn(displacement: Tensor, matrix: NDArray[np.float64], grid: Grid) -> Tensor:
    linear = torch.tensor(matrix[: grid.ndim, : grid.ndim]).to(displacement)
    return torch.einsum("cd,bd...->bc...", linear, displacement)


def compose(outer_vox: Tensor, inner_vox: Tensor) -> Tensor:
    """Displacement of `outer ∘ inner`, that is `inner(x) + outer(x + inner(x))`; all `(batch, n, *shape)`, one grid."""
    return inner_vox + warp(outer_vox, inner_vox)


def invert(displacement_vox: Tensor, *, iterations: int = 30) -> Tensor:
    """Inverse displacement on the same grid, by the fixed point `w(x) = -u(x + w(x))`.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *shape)`; must not fold. Converges where the gradient of u is below 1 in norm.
    iterations
        Number of fixed-point steps.

    References
    ----------
    Chen et al., A simple fixed-point approach to invert a deformation field, Med Phys 2008.
    """
    inverse = -displacement_vox
    for _ in range(iterations):
        inverse = -warp(displacement_vox, inverse)
    return inverse


def jacobian(displacement_vox: Tensor) -> Tensor:
    """Jacobian matrix of `x + u(x)` by central differences.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *shape)`, every side at least 2.

    Returns
    -------
    Tensor
        `(batch, n, n, *shape)`, entry `[c, d]` the derivative of component c along axis d; one-sided at the border.
    """
    n = displacement_vox.shape[1]
    axes = tuple(range(2, 2 + n))
    gradients = torch.gradient(displacement_vox, dim=axes)
    matrix = torch.stack(gradients, 2)
    for c in range(n):
        matrix[:, c, c] += 1
    return matrix


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinant of the Jacobian of `x + u(x)`, `(batch, *shape)`: 1 keeps volume, 0 or less folds."""
    j = jacobian(displacement_vox)
    if j.shape[1] == 2:
        return j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] * j[:, 1, 0]
    return (
        j[:, 0, 0] * (j[:, 1, 1] * j[:, 2, 2] - j[:, 1, 2] * j[:, 2, 1])
        - j[:, 0, 1] * (j[:, 1, 0] * j[:, 2, 2] - j[:, 1, 2] * j[:, 2, 0])
        + j[:, 0, 2] * (j[:, 1, 0] * j[:, 2, 1] - j[:, 1, 1] * j[:, 2, 0])
    )
