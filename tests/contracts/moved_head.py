"""A head that is a formula in RAS+ mm, so that a moved image is drawn and not resampled; and maps that move it.

Errors are distances in mm between where an engine and the truth send the points of the head; voxels are 2 mm wide in
3-D and 1 mm in 2-D unless said otherwise.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from covoxel.registration import PairModel, register, takes
from covoxel.registration.base import MovingBatch
from covoxel.registration.descent import Schedule, Term, deform
from covoxel.spatial import Grid, Image, Transform

Points = NDArray[np.float64]
Map = Callable[[Points], Points]

HALF_AXES_MM = np.array([26.0, 32.0, 24.0])
GRIDS = {2: Grid.from_spacing((68, 80), 1.0), 3: Grid.from_spacing((34, 40, 32), 2.0)}


def waves() -> tuple[Points, Points]:
    generator = np.random.default_rng(4)
    directions = generator.normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths_mm = generator.uniform(9, 24, 40)
    return directions * (2 * np.pi / lengths_mm)[:, None], generator.uniform(0, 2 * np.pi, 40)


WAVES, PHASES = waves()


def head(points_ras: Points) -> Points:
    """How much of a point lies in the head, 0 to 1, with an edge of about a millimetre."""
    distance = np.sqrt(((points_ras / HALF_AXES_MM[: points_ras.shape[-1]]) ** 2).sum(-1))
    return np.asarray(1 / (1 + np.exp(np.clip((distance - 1) * 48, -50, 50))))


def phantom(points_ras: Points) -> Points:
    """Head with a texture of waves of 9 to 24 mm that no rotation repeats, and a faint one around it."""
    texture = np.cos(points_ras @ WAVES[:, : points_ras.shape[-1]].T + PHASES).sum(-1) / np.sqrt(20)
    inside = head(points_ras)
    return np.asarray(np.clip(inside * (0.5 + 0.17 * texture) + (1 - inside) * (0.06 + 0.02 * texture), 0, 1))


def points(grid: Grid) -> Points:
    return grid.to_ras(np.stack(np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij"), -1))


def draw(grid: Grid, moving_from_fixed: Map = lambda p: p) -> Image:
    """The fixed image that the phantom, as the moving image, becomes under a map."""
    return Image(torch.tensor(phantom(moving_from_fixed(points(grid))), dtype=torch.float32), grid)


def errors_mm(transform: Transform, truth: Map) -> Points:
    at = points(transform.grid).reshape(-1, transform.grid.ndim)
    at = at[head(truth(at)) > 0.5]
    distance: Points = np.linalg.norm(transform.map(at) - truth(at), axis=1)
    return distance


def shift(at: Points) -> Points:
    moved: Points = at + np.array([6.0, -4.0, 5.0])[: at.shape[-1]]
    return moved


def affine_motion(at: Points) -> Points:
    n = at.shape[-1]
    linear = np.array([[1.04, -0.1, 0.05], [0.09, 0.94, 0.08], [-0.03, -0.06, 1.05]])
    moved: Points = at @ linear[:n, :n].T + np.array([3.0, -4.0, 2.0])[:n]
    return moved


def smooth_warp(at: Points) -> Points:
    """Waves of 3 mm; the Jacobian determinant is from 0.5 to 1.7 (2-D: 0.3 to 2)."""
    n = at.shape[-1]
    frequency = np.array([[0.09, 0.05, 0.03], [0.04, 0.10, 0.06], [0.05, 0.03, 0.08]])[:n, :n]
    moved: Points = at + 3 * np.sin(at @ frequency.T + np.array([0.3, 1.0, 2.0])[:n])
    return moved


def oblique_grid() -> Grid:
    """Another size, spacing and orientation (turned, left-handed)."""
    matrix = np.eye(4)
    turn = Rotation.from_rotvec([0.35, -0.5, 0.8]).as_matrix()
    matrix[:3, :3] = turn @ np.diag([-1.8, 1.5, 2.5])
    shape = (44, 52, 32)
    matrix[:3, 3] = np.array([3.0, -2.0, 1.0]) - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, matrix)


def optimised(fixed: Tensor, moving: Tensor, iterations: tuple[int, ...] = (20, 8)) -> Tensor:
    """What a very good network would say of pairs `(batch, 1, *shape)`: here every pair is optimised."""
    grid = Grid.from_spacing(tuple(fixed.shape[2:]))
    schedule = Schedule(iterations, "diffusion", 0.5, 0.5, (2.0, 1.5), (1.0, 0.5))
    found = []
    for one, other in zip(fixed[:, 0], moving[:, 0], strict=True):
        batch = MovingBatch.of([Image(other, grid)], "cpu")
        term = Term.of_intensities(Image(one, grid), batch, "lncc", 2)
        (each,) = deform([Transform.identity(grid)], [term], schedule)
        assert each.displacement_mm is not None
        found.append(each.displacement_mm)
    return torch.stack(found)


MODEL = PairModel(optimised, alignment="affine")
QUICK = PairModel(partial(optimised, iterations=(2, 1)), alignment="centre")
"""Accurate in nothing; for what must hold of any network."""


def run(
    engine: str, fixed: Image, moving: Sequence[Image], *, model: PairModel = MODEL, **settings: Any
) -> list[Transform]:
    """Register by an engine of any kind; one that wants a network gets `model`."""
    given = {"model": model} if takes(engine, "model") else {}
    return register(engine, fixed, moving, **given, **settings)
