"""Folding: where a transform turns space inside out, and how unevenly it stretches it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from covoxel.spatial import Transform
from covoxel.spatial.field import displacement_vox_from_mm, jacobian_determinant


@dataclass(frozen=True)
class Folding:
    """Regularity of a transform over the voxels asked about.

    Parameters
    ----------
    percent
        Voxels whose determinant is 0 or less, in percent.
    sd_log_jacobian
        Standard deviation of log det J over the voxels that do not fold (the logarithm of the others does not exist).
    sd_log_jacobian_learn2reg
        The number under the same name on the Learn2Reg leaderboards, `sd(log(clip(det J + 3, 1e-9, 1e9)))` without the
        two outermost layers of voxels, about a quarter of the true one and blind to folds; for comparison with
        published tables only. NaN on grids too small.
    minimum, maximum
        Least and largest determinant.
    voxels
        Number of voxels asked about.
    """

    percent: float
    sd_log_jacobian: float
    sd_log_jacobian_learn2reg: float
    minimum: float
    maximum: float
    voxels: int


def folding(transform: Transform, mask: Tensor | None = None) -> Folding:
    """Folding of a transform, from central differences on its own (fixed) grid.

    Parameters
    ----------
    transform
        Fixed to moving. The determinant is that of the whole map, so a volume change of its matrix counts; on the
        standard deviation of the logarithm a matrix has no influence.
    mask
        `(*grid.shape)` bool, on the fixed grid; all voxels by default.

    Raises
    ------
    ValueError
        If the mask has another shape or is empty.
    """
    determinant = determinants(transform)
    if mask is not None and (mask.shape != determinant.shape or not mask.any()):
        raise ValueError(f"mask must be {tuple(determinant.shape)} and not empty, got {tuple(mask.shape)}")
    values = _chosen(determinant, mask)
    inner = tuple(slice(2, -2) if side > 1 else slice(None) for side in determinant.shape)
    positive = values[values > 0]
    return Folding(
        percent=100 * (1 - len(positive) / len(values)),
        sd_log_jacobian=_spread(positive.log()),
        sd_log_jacobian_learn2reg=_spread(
            (_chosen(determinant[inner], None if mask is None else mask[inner]) + 3).clamp(1e-9, 1e9).log()
        ),
        minimum=float(values.min()),
        maximum=float(values.max()),
        voxels=len(values),
    )


def determinants(transform: Transform) -> Tensor:
    """Jacobian determinant, `(*grid.shape)` float32, of the map from fixed to moving points in the world."""
    n, shape = transform.grid.ndim, transform.grid.shape
    whole = float(np.linalg.det(transform.moving_from_fixed[:n, :n]))
    if transform.displacement_mm is None:
        return torch.full(shape, whole)
    displacement = displacement_vox_from_mm(transform.displacement_mm[None].float(), transform.grid)
    # Along a side of one voxel nothing changes; a difference needs two.
    doubled = displacement.expand(-1, -1, *[2 if side == 1 else -1 for side in shape])
    determinant = jacobian_determinant(doubled)[0] * whole
    return determinant[tuple(slice(side) for side in shape)]


def _chosen(determinant: Tensor, mask: Tensor | None) -> Tensor:
    """Determinants where the mask is, or all of them; flat, float64."""
    if mask is not None:
        determinant = determinant[mask.to(determinant.device, torch.bool)]
    return determinant.reshape(-1).double()


def _spread(values: Tensor) -> float:
    return float(values.std(correction=0)) if len(values) else float("nan")
