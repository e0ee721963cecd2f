"""Digital diffeomorphism: folds that central differences do not see, and the volume in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import factorial

import numpy as np
import torch
from torch import Tensor

from covoxel.spatial import Transform
from covoxel.spatial.field import displacement_vox_from_mm

_EVEN = ((1, 1, 0), (0, 1, 1), (1, 0, 1))
"""Edges from a corner of a cell to the far corners of its three faces there: a tetrahedron of a third of the cell."""


@dataclass(frozen=True)
class DigitalFolding:
    """Folds of the piecewise linear map between voxels, over the voxels asked about that are not on the border.

    Parameters
    ----------
    percent
        Voxels at which any of the determinants is 0 or less, in percent: the map is no digital diffeomorphism there.
    volume_percent
        Non-diffeomorphic volume (NDV): the volume of the tetrahedra turned inside out, in percent of the volume of the
        voxels; both ways to cut a cell, averaged. In 2-D the area of the triangles.
    voxels
        Number of voxels asked about, without the outermost layer.
    """

    percent: float
    volume_percent: float
    voxels: int


def digital_folding(transform: Transform, mask: Tensor | None = None) -> DigitalFolding:
    """Folds by all forward and backward differences; stricter than `folding`, whose central ones skip the voxel itself.

    Around a voxel every choice of a forward or a backward difference along each axis spans a simplex (four in 2-D,
    eight in 3-D); a cell cut at four alternate corners leaves a ninth in the middle and, cut at the others, a tenth.

    Parameters
    ----------
    transform
        Fixed to moving; the whole map counts, so a matrix that mirrors folds everywhere and one that doubles volumes
        doubles those of folds.
    mask
        `(*grid.shape)` bool, on the fixed grid (of the fixed image: the leaderboards once took the moving one's); all
        voxels by default. An axis of one voxel is left out; the other sides must be 3 or more.

    Raises
    ------
    ValueError
        If a side has two voxels, or no voxel inside the border is asked about.

    References
    ----------
    Liu et al., On finite difference Jacobian computation in deformable image registration, IJCV 2024.
    """
    field, inside = _plane(transform, mask)
    folds = torch.zeros_like(inside)
    volume = torch.zeros(inside.shape, dtype=torch.float64, device=inside.device)
    n = field.shape[0]
    matrix = transform.moving_from_fixed[: transform.grid.ndim, : transform.grid.ndim]
    whole = float(np.linalg.det(matrix))
    for determinant in _determinants(field):
        folds |= determinant * whole <= 0
        volume += (-whole * determinant).clamp(min=0) / (2 * factorial(n))
    count = int(inside.sum())
    return DigitalFolding(
        percent=100 * int((folds & inside).sum()) / count,
        volume_percent=100 * float(volume[inside].sum()) / count,
        voxels=count,
    )


def _plane(transform: Transform, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Displacement in voxels along axes of more than one voxel, `(n, *shape)`, and the inner voxels asked about."""
    grid = transform.grid
    axes = [axis for axis, side in enumerate(grid.shape) if side > 1]
    shape = [grid.shape[axis] for axis in axes]
    if mask is not None and mask.shape != grid.shape:
        raise ValueError(f"mask must be {grid.shape}, got {tuple(mask.shape)}")
    if transform.displacement_mm is None:
        field = torch.zeros(len(axes), *shape)
    else:
        field = displacement_vox_from_mm(transform.displacement_mm[None].float(), grid)[0][axes].reshape(-1, *shape)
    asked = torch.ones(shape, dtype=torch.bool) if mask is None else mask.reshape(shape).bool()
    inside = asked.to(field.device)[tuple(slice(1, -1) for _ in shape)].clone()
    if not inside.any():
        raise ValueError(f"mask must hold a voxel that is not on the border of {grid.shape}")
    return field, inside


def _determinants(field: Tensor) -> Iterator[Tensor]:
    """Determinants of the simplices at each inner voxel, those of positive volume at the identity."""
    n = field.shape[0]
    edges = [tuple(int(axis == other) for other in range(n)) for axis in range(n)]
    for signs in product((1, -1), repeat=n):
        spans = [_edge(field, tuple(sign * e for e in edge)) for sign, edge in zip(signs, edges, strict=True)]
        yield _determinant(spans) * int(np.prod(signs))
    if n == 3:
        for sign in (1, -1):
            yield _determinant([_edge(field, tuple(sign * e for e in edge)) for edge in _EVEN]) * sign


def _edge(field: Tensor, step: tuple[int, ...]) -> Tensor:
    """Vector from where inner voxels are mapped to where the voxels `step` away are, `(n, *inner shape)`."""
    here = tuple(slice(1, side - 1) for side in field.shape[1:])
    there = tuple(slice(1 + s, side - 1 + s) for s, side in zip(step, field.shape[1:], strict=True))
    offset = field.new_tensor(step).view(-1, *[1] * (field.ndim - 1))
    return field[(slice(None), *there)] - field[(slice(None), *here)] + offset


def _determinant(columns: list[Tensor]) -> Tensor:
    """Determinant of the matrix with these columns, `(*shape)`."""
    if len(columns) == 2:
        a, b = columns
        return a[0] * b[1] - a[1] * b[0]
    a, b, c = columns
    triple: Tensor = (a * torch.linalg.cross(b, c, dim=0)).sum(0)
    return triple
