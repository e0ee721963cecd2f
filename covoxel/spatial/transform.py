"""Transform: where each point of the fixed image lies in the moving image."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from covoxel.spatial.grid import Grid
from covoxel.spatial.warp import sample, voxel_coordinates


@dataclass(frozen=True, eq=False)
class Transform:
    """The map `x -> moving_from_fixed (x + u(x))` from fixed to moving points, RAS+ mm.

    Parameters
    ----------
    grid
        Grid of the fixed image.
    moving_from_fixed
        `(n + 1, n + 1)` matrix in RAS+ mm.
    displacement_mm
        `(n, *grid.shape)` float32, RAS+ mm, or None for an affine transform. Outside the grid u is zero,
        as it is for ITK.
    remark
        Why the engine that found it gives something else than it was asked for, in words that follow "atlas a3: ";
        empty where it does not. Not written to files.
    """

    grid: Grid
    moving_from_fixed: NDArray[np.float64]
    displacement_mm: Tensor | None = None
    remark: str = ""

    def __post_init__(self) -> None:
        n = self.grid.ndim
        matrix = np.asarray(self.moving_from_fixed, dtype=np.float64)
        if matrix.shape != (n + 1, n + 1) or not np.isfinite(matrix).all():
            raise ValueError(f"moving_from_fixed must be a finite {(n + 1, n + 1)} matrix, got {matrix.tolist()}")
        object.__setattr__(self, "moving_from_fixed", matrix)
        if self.displacement_mm is not None and tuple(self.displacement_mm.shape) != (n, *self.grid.shape):
            raise ValueError(
                f"displacement_mm must be {(n, *self.grid.shape)}, got {tuple(self.displacement_mm.shape)}"
            )

    @classmethod
    def identity(cls, grid: Grid) -> "Transform":
        """The transform that leaves every point of `grid` where it is."""
        return cls(grid, np.eye(grid.ndim + 1))

    def map(self, points_ras: ArrayLike) -> NDArray[np.float64]:
        """Moving points, `(m, n)` RAS+ mm, of fixed points `(m, n)` RAS+ mm."""
        points = np.asarray(points_ras, dtype=np.float64)
        n = self.grid.ndim
        if self.displacement_mm is not None:
            voxel = self.grid.to_voxel(points)
            field = self.displacement_mm[None].double().cpu()
            at = torch.as_tensor(voxel.T.reshape(1, n, -1, *[1] * (n - 1)))
            shift = sample(field, at).reshape(n, -1).T.numpy()
            inside = ((voxel >= -0.5) & (voxel <= np.asarray(self.grid.shape) - 0.5)).all(1, keepdims=True)
            points = points + np.where(inside, shift, 0)
        return points @ self.moving_from_fixed[:n, :n].T + self.moving_from_fixed[:n, n]

    def moving_coordinates_vox(self, moving: Grid, device: torch.device | str = "cpu") -> Tensor:
        """Voxel coordinates in `moving` of every voxel of the fixed grid, `(1, n, *grid.shape)` float32."""
        n = self.grid.ndim
        matrix = moving.voxel_from_ras @ self.moving_from_fixed
        like = torch.zeros((), dtype=torch.float32, device=device)
        from_fixed = torch.tensor(matrix @ self.grid.ras_from_voxel)[None].to(like)
        coordinates = apply_matrix(from_fixed, voxel_coordinates(self.grid.shape, like))
        if self.displacement_mm is not None:
            linear = torch.tensor(matrix[:n, :n]).to(like)
            coordinates += torch.einsum("cd,d...->c...", linear, self.displacement_mm.to(like))[None]
        return coordinates


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Images of points under affine matrices.

    Parameters
    ----------
    matrix
        `(batch, n + 1, n + 1)`.
    points
        `(batch or 1, n, *shape)`.

    Returns
    -------
    Tensor
        `(batch, n, *shape)`.
    """
    n = points.shape[1]
    flat = points.flatten(2).expand(matrix.shape[0], -1, -1)
    moved = torch.baddbmm(matrix[:, :n, n:], matrix[:, :n, :n], flat)
    return moved.view(matrix.shape[0], n, *points.shape[2:])
