"""Placement: where a case lies relative to a template, an affine map after the flow of a velocity."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.registration.descent import NodeVelocity
from covoxel.registration.pyramid import cell_grid
from covoxel.spatial import Grid, Transform, sample, voxel_coordinates
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.transform import apply_matrix

_DECIMALS = 10


@dataclass(frozen=True, eq=False)
class Placement:
    """The map `x -> moving_from_template exp(v)(x)` from points of the template to points of a case, RAS+ mm.

    Parameters
    ----------
    grid
        Grid of the template.
    moving_from_template
        `(n + 1, n + 1)` matrix in RAS+ mm.
    velocity_vox
        `(n, *nodes)` float32, cells per unit time; None for an affine placement.
    cells
        Voxels of `grid` in a cell of the velocity, along each axis; 1 without a velocity.
    similarity
        Correlation of the case with the template onto which it was brought, within its field of view.
    """

    grid: Grid
    moving_from_template: NDArray[np.float64]
    velocity_vox: Tensor | None = None
    cells: tuple[int, ...] = ()
    similarity: float = float("nan")

    @property
    def nodes(self) -> Grid:
        """Grid of the cells on which the velocity lives."""
        return cell_grid(self.grid, self.cells or (1,) * self.grid.ndim)

    def transform(self) -> Transform:
        """From points of the template (fixed) to points of the case (moving): resamples the case onto the template."""
        return Transform(self.grid, self.moving_from_template, self._displacement_mm(1))

    def inverse(self, onto: Grid) -> Transform:
        """From points of the case, whose grid is `onto` (fixed), to points of the template (moving)."""
        template_from_moving = inverse(self.moving_from_template)
        back = self._displacement_mm(-1)
        if back is None:
            return Transform(onto, template_from_moving)
        n = onto.ndim
        shift = displacement_at(Transform(self.grid, np.eye(n + 1), back), onto, template_from_moving)
        linear = torch.tensor(self.moving_from_template[:n, :n]).to(shift)
        return Transform(onto, template_from_moving, torch.einsum("cd,d...->c...", linear, shift))

    def after(self, shape: Self) -> "Placement":
        """The placement relative to a template whose shape has changed: this placement after `shape`.

        Parameters
        ----------
        shape
            From points of the new template to points of the old one. Velocities are subtracted, not composed: the
            first order of Baker, Campbell and Hausdorff, so that the mean of the new ones is exactly zero.
        """
        velocity = self.velocity_vox
        if velocity is not None and shape.velocity_vox is not None:
            velocity = velocity + shape.velocity_vox
        return replace(
            self,
            grid=shape.grid,
            moving_from_template=steady(self.moving_from_template @ shape.moving_from_template),
            velocity_vox=velocity,
        )

    def _displacement_mm(self, sign: int) -> Tensor | None:
        """Displacement, `(n, *grid.shape)`, of the velocity, or with -1 of its inverse; None without one."""
        if self.velocity_vox is None:
            return None
        flow = NodeVelocity(self.velocity_vox[None].float() * sign, self.cells)
        return displacement_mm_from_vox(flow.displacement_vox(self.grid), self.grid)[0]


def displacement_at(transform: Transform, onto: Grid, fixed_from_onto: NDArray[np.float64]) -> Tensor:
    """Displacement of a transform, mm, `(n, *onto.shape)`, at the points of another grid; continued outside its own.

    A displacement that ended with its grid would tear the map along the border.

    Parameters
    ----------
    transform
        With a displacement.
    onto
        Whose voxels are asked about.
    fixed_from_onto
        `(n + 1, n + 1)` matrix from their points to points of the fixed image of `transform`.
    """
    if transform.displacement_mm is None:
        raise ValueError("transform must have a displacement, got None")
    field = transform.displacement_mm[None].float()
    matrix = transform.grid.voxel_from_ras @ fixed_from_onto @ onto.ras_from_voxel
    at = apply_matrix(torch.tensor(matrix)[None].to(field), voxel_coordinates(onto.shape, field))
    return sample(field, at)[0]


def inside(coordinates_vox: Tensor, grid: Grid) -> Tensor:
    """Where voxel coordinates `(1, n, *shape)` fall inside a grid: `(1, 1, *shape)` of 0 and 1."""
    sides = coordinates_vox.new_tensor(grid.shape).view(1, -1, *[1] * (coordinates_vox.ndim - 2))
    within = (coordinates_vox >= -0.5) & (coordinates_vox <= sides - 0.5)
    return within.all(1, keepdim=True).to(coordinates_vox)


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a matrix, `steady`."""
    return steady(np.linalg.inv(matrix))


def steady(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """A matrix to ten decimals: the last bits of linear algebra depend on where in memory its input happens to lie."""
    return np.asarray(np.round(matrix, _DECIMALS) + 0.0, dtype=np.float64)


def through(outer: Transform, inner: Transform) -> Transform:
    """The map `outer ∘ inner` as one transform on the grid of `inner`, of which it keeps the matrices apart.

    Where points come to lie beyond the grid of `outer`, its displacement is continued, see `displacement_at`.

    Parameters
    ----------
    outer
        From points of a template to points of an atlas.
    inner
        From points of a case to points of the template.
    """
    grid, n = inner.grid, inner.grid.ndim
    matrix = steady(outer.moving_from_fixed @ inner.moving_from_fixed)
    if outer.displacement_mm is None:
        return Transform(grid, matrix, inner.displacement_mm)
    at = inner.moving_coordinates_vox(outer.grid)
    field = outer.displacement_mm[None].float().cpu()
    shift = sample(field, at)[0]
    back = torch.tensor(inverse(inner.moving_from_fixed)[:n, :n]).to(shift)
    total = torch.einsum("cd,d...->c...", back, shift)
    return Transform(grid, matrix, total if inner.displacement_mm is None else total + inner.displacement_mm.cpu())
