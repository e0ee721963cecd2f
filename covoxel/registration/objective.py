"""Affine alignment as an optimisation: the loss of affine parameters on one grid, and its descent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.losses.base import SIMILARITIES
from covoxel.preprocessing.intensity import not_constant
from covoxel.registration.base import MovingBatch
from covoxel.registration.pyramid import cell_factors, level_of, smoothed_moving
from covoxel.spatial import Grid, Image, voxel_coordinates
from covoxel.spatial.affine import AffineParameters
from covoxel.spatial.smoothing import cell_means
from covoxel.spatial.transform import apply_matrix
from covoxel.spatial.warp import sample

Freedom = Literal["rigid", "similarity", "affine"]

_BETAS = (0.8, 0.95)


@dataclass(frozen=True)
class AffineSetting:
    """Which parameters are free and what is compared: see `covoxel.registration.affine`."""

    freedom: Freedom
    similarity: str
    radius: int


@dataclass(frozen=True, eq=False)
class Contents:
    """Which voxels of the images hold something, so that what lies outside counts in a comparison.

    Parameters
    ----------
    fixed
        `(1, 1, *shape)` of 0 to 1.
    moving
        The same of each moving image, on its grid, as `data`.
    """

    fixed: Tensor
    moving: MovingBatch

    @classmethod
    def of(cls, fixed: Image, moving: MovingBatch) -> "Contents":
        """All that is no constant background, of images whose borders were cut off."""
        each = [Image(not_constant(moving.image(i).data).float(), grid) for i, grid in enumerate(moving.grids)]
        batch = MovingBatch.of(each, moving.data.device)
        return cls(not_constant(fixed.data)[None, None].float(), batch)

    def part(self, rows: Sequence[int]) -> "Contents":
        """The contents for some of the moving images."""
        return Contents(self.fixed, self.moving.part(rows))


class AffineObjective:
    """Loss of affine parameters with cells of one size.

    Parameters
    ----------
    fixed
        `(1, 1, *grid.shape)`.
    grid
        Grid of `fixed`.
    moving
        Images to align, one a row of the parameters.
    centre_ras
        Centre of rotation, scale and shear, `(n,)` mm.
    spacing_mm
        Width of the cells on which images are compared.
    setting
        What is compared.
    """

    def __init__(
        self,
        fixed: Tensor,
        grid: Grid,
        moving: MovingBatch,
        centre_ras: NDArray[np.float64],
        spacing_mm: float,
        setting: AffineSetting,
    ) -> None:
        factors = cell_factors(grid, spacing_mm)
        level = level_of(fixed, grid, factors)
        self.moving, self.setting, self.spacing_mm = moving, setting, spacing_mm
        self._fixed, self._centre = level.fixed, centre_ras
        self._smooth = smoothed_moving(moving, spacing_mm)
        self._points = voxel_coordinates(level.grid.shape, fixed)
        self._ras_from_cell = torch.tensor(level.grid.ras_from_voxel).to(fixed)
        self._voxel_from_ras = torch.tensor(moving.voxel_from_ras()).to(fixed)
        self._cells = factors
        self._cell_mm = float(abs(np.linalg.det(level.grid.ras_from_voxel)))
        self.reach_mm = float(np.linalg.norm(np.asarray(grid.shape) * grid.spacing_mm)) / 4

    def __call__(self, parameters: AffineParameters) -> Tensor:
        """Loss, `(batch,)`; differentiable."""
        coordinates, _ = self._coordinates(parameters)
        return self._loss(coordinates)[0]

    @torch.no_grad()
    def agreement(self, parameters: AffineParameters) -> Tensor:
        """One minus the loss, `(batch,)`, times the share of the fixed image that has a partner."""
        loss, mask = self._loss(self._coordinates(parameters)[0])
        return (1 - loss) * mask.flatten(1).mean(1)

    @torch.no_grad()
    def unrelated(self, parameters: AffineParameters) -> Tensor:
        """Loss, `(batch,)`, of images that have nothing in common: the moved one is shifted by half its sides."""
        coordinates, _ = self._coordinates(parameters)
        halves, axes = [side // 2 for side in coordinates.shape[2:]], list(range(2, coordinates.ndim))
        mask = self.moving.inside(coordinates)
        loss = SIMILARITIES[self.setting.similarity](self._fixed, mask, radius=self.setting.radius)
        return loss(sample(self._smooth, coordinates).roll(halves, axes))

    @torch.no_grad()
    def union_agreement(self, parameters: AffineParameters, contents: Contents, unrelated: Tensor) -> Tensor:
        """By how much the loss is less than `unrelated`, times the share of the union that is compared: `(batch,)`.

        The union is that of what the fixed image holds and what the moved one holds, inside the fixed image and
        outside. So neither an image blown up until little of it is left in view, nor one that shrinks to a spot, gains.
        """
        coordinates, matrices = self._coordinates(parameters)
        loss, mask = self._loss(coordinates)
        held = contents.moving
        moved = mask if bool((held.data == 1).all()) else sample(held.data, coordinates) * mask
        fixed = cell_means(contents.fixed, self._cells)
        volume_mm = torch.tensor([float(abs(np.linalg.det(grid.ras_from_voxel))) for grid in held.grids]).to(moved)
        whole = held.own_sums() * volume_mm / self._cell_mm / torch.linalg.det(matrices[:, :-1, :-1]).abs()
        union = fixed.sum() + (whole - (fixed * moved).flatten(1).sum(1)).clamp(min=0)
        agreement: Tensor = (unrelated - loss) * mask.flatten(1).sum(1) / union.clamp(min=1)
        return agreement

    def _loss(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        moved, mask = sample(self._smooth, coordinates), self.moving.inside(coordinates.detach())
        return SIMILARITIES[self.setting.similarity](self._fixed, mask, radius=self.setting.radius)(moved), mask

    def _coordinates(self, parameters: AffineParameters) -> tuple[Tensor, Tensor]:
        matrix = parameters.matrix(self._centre)
        return apply_matrix(self._voxel_from_ras @ matrix @ self._ras_from_cell, self._points), matrix


def descend(objective: AffineObjective, start: AffineParameters, steps: int) -> AffineParameters:
    """Adam on the free parameters, `steps` steps.

    A step moves the periphery of the image by about half a cell at first and by a twentieth at the end.
    """
    freedom = objective.setting.freedom
    unit = 0.5 * objective.spacing_mm
    scale = start.log_scale[:, :1] if freedom == "similarity" else start.log_scale
    parts = (start.translation_mm, start.rotation_rad, scale, start.shear)
    translation, rotation, stretch, shear = (part.detach().clone().requires_grad_() for part in parts)
    free = {"rigid": [rotation], "similarity": [rotation, stretch], "affine": [rotation, stretch, shear]}[freedom]
    leaves = [translation, *free]
    lengths = [unit, *[unit / objective.reach_mm] * len(free)]
    moments = [(torch.zeros_like(leaf), torch.zeros_like(leaf)) for leaf in leaves]

    def parameters() -> AffineParameters:
        return AffineParameters(translation, rotation, stretch.expand_as(start.log_scale), shear)

    for step in range(steps):
        gradients = torch.autograd.grad(objective(parameters()).sum(), leaves)
        shrink = 1 - 0.9 * step / steps
        with torch.no_grad():
            for leaf, gradient, moment, length in zip(leaves, gradients, moments, lengths, strict=True):
                leaf.sub_(_adam(gradient, *moment, step + 1), alpha=length * shrink)
    return parameters().map(Tensor.detach)


def _adam(gradient: Tensor, mean: Tensor, square: Tensor, step: int) -> Tensor:
    """Direction of Adam (Kingma and Ba, 2015), whose two moments are updated in place.

    By hand because the first optimiser that torch makes imports its compiler: a second or more in every process.
    """
    mean.lerp_(gradient, 1 - _BETAS[0])
    square.lerp_(gradient.square(), 1 - _BETAS[1])
    return mean / (1 - _BETAS[0] ** step) / ((square / (1 - _BETAS[1] ** step)).sqrt() + 1e-8)
