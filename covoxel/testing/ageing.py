"""Synthetic cohorts in which one structure grows or shrinks with age by an exactly known rate, 2-D or 3-D."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import expm

from covoxel.spatial import Grid, Image
from covoxel.spatial.velocity import exp
from covoxel.testing.synthetic import LocalChange, Variability, smooth_field

CHANGING, STABLE = 1, 2
"""Labels of the structure that changes and of the one that does not."""

PEOPLE = Variability(warp_mm=0.9, warp_kernel_mm=15.0, scale=0.02, rotation_rad=0.1, offset_mm=4.0)
"""How people of one age differ."""

_SIDE_MM = 96.0
_HEAD_MM = (41.0, 38.0, 38.0)
_CENTRES_MM = {CHANGING: (-13.0, 1.0, 1.0), STABLE: (20.0, -4.0, -2.0)}
_RADII_MM = {CHANGING: (12.0, 13.0, 12.0), STABLE: (9.0, 11.0, 10.0)}
_TISSUE, _BRIGHTNESS = 0.5, {CHANGING: 0.85, STABLE: 0.25}
_EDGE_MM, _ROOM_MM, _REACH = 1.0, 1.5, 1.6
_WAVES, _WAVE_MM, _TEXTURE = 40, 5.0, 0.08


@dataclass(frozen=True, eq=False)
class Person:
    """One image of a cohort.

    Parameters
    ----------
    image, label_map
        As a scanner stores it, and the true structures.
    age
        Years.
    volumes_mm3
        True volume of each structure, voxels at its border counted by their share (mm² in 2-D).
    """

    image: Image
    label_map: Image
    age: float
    volumes_mm3: dict[int, float]


def draw_people(
    count: int,
    *,
    percent_per_year: float,
    shape: Sequence[int] = (96, 96),
    ages: tuple[float, float] = (50.0, 80.0),
    seed: int = 0,
    variability: Variability = PEOPLE,
) -> dict[str, Person]:
    """People by id, their ages spread evenly over a range.

    Parameters
    ----------
    count
        Two or more.
    percent_per_year
        By which the volume of `CHANGING` grows a year, compound; it is as in the anatomy at the middle of the ages.
    shape
        Of the images, which show about 96 mm along every axis.
    seed
        Of everything that is drawn: anatomy, shape, pose, bias field, noise.
    """
    texture = _Texture(np.random.default_rng([seed, 0]), len(shape))
    spread = np.linspace(*ages, count)
    order = np.random.default_rng([seed, 1]).permutation(count)
    middle = sum(ages) / 2
    return {
        f"p{number + 1}": _draw(
            texture,
            np.random.default_rng([seed, 2, number]),
            float(spread[place]),
            (1 + percent_per_year / 100) ** (float(spread[place]) - middle),
            tuple(shape),
            variability,
        )
        for number, place in enumerate(order)
    }


class _Texture:
    """A random function of the place, smooth, of variance one: a sum of waves."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self._waves = rng.normal(0, 1 / _WAVE_MM, (n, _WAVES))
        self._phases = rng.uniform(0, 2 * np.pi, _WAVES)

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.cos(points @ self._waves + self._phases).sum(-1) * (2 / _WAVES) ** 0.5
        return total


def _draw(
    texture: _Texture,
    rng: np.random.Generator,
    age: float,
    factor: float,
    shape: tuple[int, ...],
    v: Variability,
) -> Person:
    n = len(shape)
    grid = Grid.from_spacing(shape, _SIDE_MM / np.asarray(shape))
    points = _anatomy_points(grid, rng, v)
    ball = max(_RADII_MM[CHANGING][:n]) + _ROOM_MM
    centre = _CENTRES_MM[CHANGING][:n]
    change = LocalChange(centre, ball, _REACH * ball, factor)
    points = np.asarray(change.then_from_now(points.reshape(-1, n)), dtype=np.float64).reshape(*shape, n)
    shares = {label: _share(points, _CENTRES_MM[label][:n], _RADII_MM[label][:n]) for label in _CENTRES_MM}
    tissue = _TISSUE + _TEXTURE * texture(points)
    for label, share in shares.items():
        tissue += share * (_BRIGHTNESS[label] - _TISSUE)
    signal = _share(points, (0.0,) * n, _HEAD_MM[:n]) * tissue.clip(0.05, 1.1)
    signal = signal * np.exp(v.bias * smooth_field(grid, rng, channels=1, kernel_mm=40.0)[0])
    noisy = np.hypot(signal + rng.normal(0, v.noise, shape), rng.normal(0, v.noise, shape))
    label_map = sum((label * (share > 0.5) for label, share in shares.items()), np.zeros(shape, dtype=np.int64))
    return Person(
        Image(torch.from_numpy(np.round(1000 * noisy).astype(np.float32)), grid),
        Image(torch.from_numpy(label_map.astype(np.int64)), grid),
        age,
        {label: float(share.sum()) * grid.voxel_volume_mm for label, share in shares.items()},
    )


def _anatomy_points(grid: Grid, rng: np.random.Generator, v: Variability) -> NDArray[np.float64]:
    """Where each voxel of a person lies in the anatomy, `(*shape, n)` mm: own shape, size and pose."""
    n = grid.ndim
    velocity_vox = smooth_field(grid, rng, channels=n, kernel_mm=v.warp_kernel_mm)
    velocity_vox *= np.float32(v.warp_mm) / grid.spacing_mm.astype(np.float32).reshape(-1, *[1] * n)
    shift_mm = exp(torch.from_numpy(velocity_vox)[None])[0].numpy().astype(np.float64)
    turn = rng.uniform(-v.rotation_rad, v.rotation_rad, (n, n))
    linear = expm((turn - turn.T) / 2) * np.exp(rng.normal(0, v.scale, n))
    offset = rng.uniform(-v.offset_mm, v.offset_mm, n)
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    moved = grid.to_ras(voxels) + np.moveaxis(shift_mm, 0, -1) * grid.spacing_mm
    return np.asarray((moved - offset) @ linear.T)


def _share(points: NDArray[np.float64], centre: Sequence[float], radii: Sequence[float]) -> NDArray[np.float64]:
    """Share of an ellipsoid at each point, falling from 1 to 0 over `2 _EDGE_MM` at its surface."""
    radius = np.linalg.norm((points - np.asarray(centre)) / np.asarray(radii), axis=-1)
    share: NDArray[np.float64] = np.clip(0.5 - (radius - 1) * float(np.mean(radii)) / (2 * _EDGE_MM), 0, 1)
    return share
