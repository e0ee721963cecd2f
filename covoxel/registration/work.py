"""The work grid of a network: images laid on one grid it knows, and its displacement brought back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.preprocessing.orientation import canonical_grid
from covoxel.registration.base import MovingBatch
from covoxel.spatial import Grid, Image, Transform, voxel_coordinates
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.smoothing import gaussian
from covoxel.spatial.transform import apply_matrix
from covoxel.spatial.warp import sample

_NEAR = 0.1
"""Voxels that differ by no more than this share from those a network knows are taken as they are."""


class Known(Protocol):
    """What a model says of the images that its network knows; see `PairModel`."""

    @property
    def spacing_mm(self) -> float | tuple[float, ...] | None:
        """Voxel size that it was trained on."""
        ...

    @property
    def smallest_side(self) -> int:
        """Smallest side, voxels, of an image it takes."""
        ...


@dataclass(frozen=True, eq=False)
class WorkGrid:
    """Grid on which a network sees the fixed image.

    Parameters
    ----------
    fixed
        Grid of the fixed image.
    grid
        Over the same field of view: axes nearest to R, A, S, and voxels as the network knows them.
    """

    fixed: Grid
    grid: Grid

    @classmethod
    def of(cls, fixed: Grid, model: Known) -> "WorkGrid":
        """Work grid of a fixed image: its own grid if orientation and, within 10 % on every axis, spacing suit.

        Raises
        ------
        ValueError
            If the image is too small for the network, or has another number of axes than `model.spacing_mm`.
        """
        grid = canonical_grid(fixed)
        if model.spacing_mm is not None:
            wanted = _spacing(model.spacing_mm, fixed.ndim)
            if (np.abs(grid.spacing_mm / wanted - 1) > _NEAR).any():
                grid = grid.with_spacing(wanted)
        if min(grid.shape) < model.smallest_side:
            spacing = " × ".join(f"{s:.3g}" for s in grid.spacing_mm)
            raise ValueError(
                f"the image must have at least {model.smallest_side} voxels a side for this network, "
                f"got {' × '.join(map(str, grid.shape))} (of {spacing} mm)"
            )
        return cls(fixed, grid)

    def images(self, fixed: Image, moving: MovingBatch, start: Sequence[Transform]) -> tuple[Tensor, Tensor]:
        """Fixed image `(1, 1, *shape)` and moving ones `(batch, 1, *shape)`, laid on the grid by `start`.

        Beyond its field of view an image is continued by its border values. Images with smaller voxels are smoothed.
        """
        return self.views(fixed, np.eye(fixed.grid.ndim + 1)[None]), self.moved(moving.data, moving, start)

    def views(self, fixed: Image, matrices: NDArray[np.float64]) -> Tensor:
        """Fixed image as seen from elsewhere, `(view, 1, *shape)`.

        Parameters
        ----------
        fixed
            The image.
        matrices
            `(view, n + 1, n + 1)`, from voxels of a view to voxels of the work grid, where the same is seen.
        """
        from_view = self.fixed.voxel_from_ras @ self.grid.ras_from_voxel @ matrices
        data = fixed.data[None, None].float()
        return _lay(data.expand(len(matrices), *data.shape[1:]), from_view, self.grid.shape)

    def moved(self, data: Tensor, moving: MovingBatch, start: Sequence[Transform]) -> Tensor:
        """Channels `(batch, channel, *own)` of moving images, their labels for one, laid on the grid by `start`."""
        matrices = np.stack([t.moving_from_fixed for t in start])
        return _lay(data, moving.voxel_from_ras() @ matrices @ self.grid.ras_from_voxel, self.grid.shape)

    def displacement_mm(self, displacement_vox: Tensor) -> Tensor:
        """Displacement in mm on the fixed grid, `(batch, n, *fixed.shape)`, of one in voxels of the work grid."""
        displacement_mm = displacement_mm_from_vox(displacement_vox, self.grid)
        if self.grid is self.fixed:
            return displacement_mm
        matrix = torch.tensor((self.grid.voxel_from_ras @ self.fixed.ras_from_voxel)[None]).to(displacement_mm)
        at = apply_matrix(matrix, voxel_coordinates(self.fixed.shape, displacement_mm))
        return sample(displacement_mm, at.expand(len(displacement_mm), *at.shape[1:]))


def _spacing(spacing_mm: float | tuple[float, ...], ndim: int) -> NDArray[np.float64]:
    spacing = np.atleast_1d(np.asarray(spacing_mm, dtype=np.float64))
    if len(spacing) not in (1, ndim):
        raise ValueError(f"the network knows images of {len(spacing)} dimensions, got one of {ndim}")
    return np.asarray(np.broadcast_to(spacing, (ndim,)))


def _lay(data: Tensor, voxel_from_work: NDArray[np.float64], shape: tuple[int, ...]) -> Tensor:
    """Images `(batch, channel, *own)` at the voxels of a grid of `shape`, through `(batch, n + 1, n + 1)` matrices."""
    shifts = [_whole_shift(matrix) for matrix in voxel_from_work]
    if None not in shifts:
        return torch.cat([_shifted(data[i : i + 1], shift, shape) for i, shift in enumerate(shifts) if shift])
    steps = np.abs(voxel_from_work[:, :-1, :-1]).max(2)
    sigma_vox = 0.5 * np.sqrt(np.maximum(0.0, steps**2 - 1)) * (steps > 1 + _NEAR)
    if sigma_vox.any():
        smooth = [gaussian(data[i : i + 1], [float(s) for s in sigma]) for i, sigma in enumerate(sigma_vox)]
        data = torch.cat(smooth)
    points = voxel_coordinates(shape, data)
    return sample(data, apply_matrix(torch.tensor(voxel_from_work).to(data), points))


def _whole_shift(matrix: NDArray[np.float64]) -> tuple[int, ...] | None:
    """Voxels by which the matrix shifts, if that is all it does, and whole."""
    whole = np.round(matrix[:-1, -1])
    only = np.eye(len(matrix))
    only[:-1, -1] = whole
    return tuple(int(s) for s in whole) if np.allclose(matrix, only, rtol=0, atol=1e-4) else None


def _shifted(image: Tensor, shift: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Copy of `(1, channel, *own)` at `index + shift`, continued by border values; no interpolation."""
    for axis, (start, side) in enumerate(zip(shift, shape, strict=True), start=2):
        index = torch.arange(start, start + side, device=image.device).clamp_(0, image.shape[axis] - 1)
        image = image.index_select(axis, index)
    return image
