"""Start poses of an affine registration: headers, centres, and a search over rotations."""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.registration.base import MovingBatch
from covoxel.registration.objective import AffineObjective, AffineSetting, Freedom, descend
from covoxel.registration.pyramid import cell_factors, cell_grid
from covoxel.spatial import Grid, Image
from covoxel.spatial.affine import AffineParameters
from covoxel.spatial.smoothing import cell_means

_ANGLE_RAD = 0.45
_REFINED = 3
_REFINING_STEPS = 15
_CELLS = 2_500
_CLEARLY = 1.05
"""A pose found by search replaces the headers' only if it agrees this many times better."""


def centre_of_mass(data: Tensor, grid: Grid) -> NDArray[np.float64]:
    """Centre of the intensities, `(n,)` RAS+ mm; the middle of the image where none is above zero."""
    weights = data.double().clamp(min=0)
    total = float(weights.sum())
    if total <= 0:
        return grid.centre_ras
    profiles = [weights.sum([d for d in range(grid.ndim) if d != axis]).cpu().numpy() for axis in range(grid.ndim)]
    return grid.to_ras([float(p @ np.arange(p.size)) / total for p in profiles])


def start_poses(
    fixed: Image, moving: MovingBatch, centre_ras: NDArray[np.float64], setting: AffineSetting, *, search: bool
) -> AffineParameters:
    """Pose from which each pair descends.

    Without `search` this is what the headers say, or aligned centres of the fields of view where by the headers the
    middle of the fixed image lies outside the moving one. With `search` translations (headers, centres of the
    fields of view, centres of mass) times rotations (0 and ±26° about each axis) are compared on a coarse grid,
    the best are refined there, and the winner is taken if it is clearly better.

    Returns
    -------
    AffineParameters
        One row a moving image.
    """
    if not search:
        return plain_poses(fixed, moving, centre_ras)
    shifts = [_shifts(fixed.grid, moving, index, centre_ras) for index in range(len(moving.grids))]
    spacing = float(np.prod(np.asarray(fixed.grid.shape) * fixed.grid.spacing_mm) / _CELLS) ** (1 / fixed.grid.ndim)
    coarse = _coarse(moving, spacing)
    rotations = _rotations(fixed.grid.ndim)
    poses = len(shifts[0]) * len(rotations)
    candidates = _parameters(
        np.concatenate([np.repeat(s, len(rotations), axis=0) for s in shifts]),
        np.tile(rotations, (len(shifts) * len(shifts[0]), 1)),
        fixed,
    )
    freedom: Freedom = "rigid" if setting.freedom == "rigid" else "similarity"
    rough = AffineSetting(freedom, setting.similarity, min(setting.radius, 2))

    def objective(count: int) -> AffineObjective:
        many = coarse.part([row for row in range(len(coarse.grids)) for _ in range(count)])
        return AffineObjective(fixed.data[None, None].float(), fixed.grid, many, centre_ras, spacing, rough)

    return _search(objective, candidates, poses)


def plain_poses(fixed: Image, moving: MovingBatch, centre_ras: NDArray[np.float64]) -> AffineParameters:
    """What the headers say, or aligned centres of the fields of view where by the headers these hardly overlap."""
    shifts = [_shifts(fixed.grid, moving, index, centre_ras)[0] for index in range(len(moving.grids))]
    return _parameters(np.stack(shifts), None, fixed)


def _search(objective: Callable[[int], AffineObjective], candidates: AffineParameters, poses: int) -> AffineParameters:
    """Best of `poses` candidates a moving image, the first of which is the plain one.

    `objective(count)` compares `count` poses of every moving image.
    """
    scores = objective(poses).agreement(candidates).view(-1, poses)
    first = torch.arange(len(scores), device=scores.device)[:, None] * poses
    others = torch.topk(scores[:, 1:], _REFINED - 1).indices + 1
    kept = (first + torch.cat([torch.zeros_like(first), others], 1)).flatten()
    some = objective(_REFINED)
    refined = descend(some, candidates.map(lambda part: part[kept]), _REFINING_STEPS)
    scores = some.agreement(refined).view(-1, _REFINED)
    best, winner = scores.max(1)
    moved = best > _CLEARLY * scores[:, 0]
    chosen = torch.arange(len(scores), device=scores.device) * _REFINED + winner

    def choose(plain: Tensor, found: Tensor) -> Tensor:
        return torch.where(moved[:, None], found[chosen], plain[first[:, 0]])

    return candidates.zip(refined, choose)


def _parameters(shifts: NDArray[np.float64], rotations: NDArray[np.float64] | None, fixed: Image) -> AffineParameters:
    rest = AffineParameters.identity(len(shifts), fixed.grid.ndim)
    rotation = rest.rotation_rad if rotations is None else torch.tensor(rotations, dtype=torch.float32)
    pose = AffineParameters(torch.tensor(shifts, dtype=torch.float32), rotation, rest.log_scale, rest.shear)
    return pose.map(lambda part: part.to(fixed.data.device))


def _rotations(ndim: int) -> NDArray[np.float64]:
    """Rotation vectors to try, the identity first."""
    return np.array(list(product((0.0, -_ANGLE_RAD, _ANGLE_RAD), repeat=1 if ndim == 2 else 3)))


def _shifts(fixed: Grid, moving: MovingBatch, index: int, centre_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Translations to try, `(3, n)` mm, the plain one first."""
    grid = moving.grids[index]
    shifts = [grid.centre_ras - fixed.centre_ras, centre_of_mass(moving.image(index).data, grid) - centre_ras]
    middle = grid.to_voxel(fixed.centre_ras)
    overlap = bool(((middle > -0.5) & (middle < np.asarray(grid.shape) - 0.5)).all())
    headers = np.zeros(fixed.ndim)
    return np.stack([headers, *shifts] if overlap else [*shifts, headers])


def _coarse(moving: MovingBatch, spacing_mm: float) -> MovingBatch:
    images = []
    for index, grid in enumerate(moving.grids):
        factors = cell_factors(grid, spacing_mm)
        own = moving.image(index).data[None, None]
        images.append(Image(cell_means(own, factors)[0, 0], cell_grid(grid, factors)))
    return MovingBatch.of(images, moving.data.device)
