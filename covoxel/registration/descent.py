"""Descent on a stationary velocity, coarse to fine, all moving images in one batch; what svf and learned+svf share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.registration.base import MovingBatch
from covoxel.registration.pyramid import cell_factors, cell_grid, smoothed_moving
from covoxel.spatial import Grid, Image, Transform, voxel_coordinates
from covoxel.spatial.field import compose, displacement_mm_from_vox, displacement_vox_from_mm
from covoxel.spatial.smoothing import bending_flow, cell_means, gaussian, refine
from covoxel.spatial.transform import apply_matrix
from covoxel.spatial.velocity import exp, squarings_for
from covoxel.spatial.warp import sample

Regulariser = Literal["diffusion", "bending"]

_REGULARISERS: dict[Regulariser, Callable[[Tensor, Sequence[float]], Tensor]] = {
    "diffusion": gaussian,
    "bending": bending_flow,
}
_FIRST_STEP_VOX = 0.5
"""First step of the exponential during the descent; the result takes steps half as long."""

_SMALLEST_SIDE = 10
"""A level whose shortest subdivided side would have fewer cells is left out."""


@dataclass(frozen=True, eq=False)
class Term:
    """Something of the fixed image that the moving images should agree with.

    Parameters
    ----------
    fixed
        `(1, channel, *grid.shape)` on the grid of the fixed image.
    moving
        `data` is `(batch, channel, *shape)`.
    prepare
        From `fixed` and a mask `(batch, 1, *shape)` of one level to the loss of moved channels, `(batch,)`.
    weight
        By which the loss is multiplied.
    """

    fixed: Tensor
    moving: MovingBatch
    prepare: Callable[[Tensor, Tensor], MovedLoss]
    weight: float = 1.0

    @classmethod
    def of_intensities(cls, fixed: Image, moving: MovingBatch, similarity: str, radius: int) -> "Term":
        """The images themselves, by a measure of `covoxel.losses.SIMILARITIES` with windows of `radius` cells."""
        return cls(fixed.data[None, None].float(), moving, partial(SIMILARITIES[similarity], radius=radius))


@dataclass(frozen=True)
class Schedule:
    """How the velocity descends; see the engine svf, whose settings these are."""

    iterations: tuple[int, ...]
    regulariser: Regulariser
    step_vox: float
    momentum: float
    update_sigma_vox: tuple[float, ...]
    velocity_sigma_vox: tuple[float, ...]
    last_step: float = 1.0

    def levels(self) -> list[tuple[int, "_Pace"]]:
        """Power of two of the cells, and the pace, of each level, coarse to fine."""
        count = len(self.iterations)
        steps = zip(
            self.iterations,
            _of_levels(self.update_sigma_vox, count),
            _of_levels(self.velocity_sigma_vox, count),
            strict=True,
        )
        paces = [
            _Pace(n, self.regulariser, self.step_vox, self.momentum, update_sigma, velocity_sigma, self.last_step)
            for n, update_sigma, velocity_sigma in steps
        ]
        return list(zip(reversed(range(count)), paces, strict=True))


def _of_levels(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """The values of the `count` finest levels; the first of them serves coarser levels that have none."""
    if not values:
        raise ValueError("update_sigma_vox and velocity_sigma_vox must have a value at least, got ()")
    return (values[0],) * (count - len(values)) + values[-count:]


@dataclass(frozen=True)
class _Pace:
    """Steps of one level."""

    steps: int
    regulariser: Regulariser
    step_vox: float
    momentum: float
    update_sigma_vox: float
    velocity_sigma_vox: float
    last_step: float


def deform(
    start: Sequence[Transform], terms: Sequence[Term], schedule: Schedule, begin: "NodeVelocity | None" = None
) -> list[Transform]:
    """Let a diffeomorphism precede each transform so that the terms agree: `x -> start(exp(v)(x))`.

    Parameters
    ----------
    start
        One a moving image, on the grid of the fixed image; all with a displacement or all without. A displacement
        is composed with the diffeomorphism, so that images are still sampled once.
    terms
        What is to agree; the losses are added.
    schedule
        Levels and steps.
    begin
        Velocity where the descent begins, and which it does not smooth; zero by default. Its cells as in
        `descend_velocity`.

    Returns
    -------
    list of Transform
        With a displacement; `start` itself if all levels are too coarse for the image.
    """
    grid = start[0].grid
    found = descend_velocity(start, terms, schedule, begin, begin)
    if found is None:
        return list(start)
    displacement_vox = found.displacement_vox(grid)
    before = _Start(start, terms[0].fixed).displacement_mm
    if before is not None:
        displacement_vox = compose(displacement_vox_from_mm(before, grid), displacement_vox)
    displacement_mm = displacement_mm_from_vox(displacement_vox, grid)
    return [Transform(grid, t.moving_from_fixed, u) for t, u in zip(start, displacement_mm, strict=True)]


@dataclass(frozen=True, eq=False)
class NodeVelocity:
    """Velocities on the cells of a grid.

    Parameters
    ----------
    velocity_vox
        `(batch, n, *nodes)`, cells per unit time.
    cells
        Voxels of the grid in a cell, along each axis.
    """

    velocity_vox: Tensor
    cells: tuple[int, ...]

    def displacement_vox(self, grid: Grid) -> Tensor:
        """Displacement after unit time on the voxels of the grid and in their units, `(batch, n, *grid.shape)`."""
        return refine_field(exp(self.velocity_vox), self.cells, (1,) * grid.ndim, grid.shape)


def descend_velocity(
    start: Sequence[Transform],
    terms: Sequence[Term],
    schedule: Schedule,
    velocity: NodeVelocity | None = None,
    expected: NodeVelocity | None = None,
) -> NodeVelocity | None:
    """Velocity of the diffeomorphism of `deform`.

    Parameters
    ----------
    start, terms, schedule
        As for `deform`.
    velocity
        Where the descent begins; zero by default. Its cells must be no larger than those of the first level of the
        schedule, as they are if it comes from here and the schedule has two levels at most.
    expected
        What the velocity is likely to be: only what differs from it is smoothed after each step, and so it is not
        drawn towards zero. Zero by default; its cells as those of `velocity`.

    Returns
    -------
    NodeVelocity or None
        None if all levels are too coarse for the image.
    """
    grid = start[0].grid
    place = _Start(start, terms[0].fixed)
    base = float(grid.spacing_mm.min())
    for power, pace in schedule.levels():
        factors = cell_factors(grid, base * 2**power)
        if power > 0 and _too_coarse(grid, factors):
            continue
        ratios = cell_ratios(grid, factors, base * 2 ** max(power, 1))
        cells = tuple(f * r for f, r in zip(factors, ratios, strict=True))
        nodes = cell_grid(grid, cells)
        if velocity is None:
            values = terms[0].fixed.new_zeros(len(start), grid.ndim, *nodes.shape)
        else:
            values = refine_field(velocity.velocity_vox, velocity.cells, cells, nodes.shape)
        known = None
        if expected is not None:
            known = refine_field(expected.velocity_vox, expected.cells, cells, nodes.shape)
        force = _LevelForce(place, terms, factors, ratios, base * 2**power)
        velocity = NodeVelocity(_ascend(force, values, pace, nodes, known), cells)
    return velocity


class _Start:
    """The transforms from which a batch of pairs descends, in the type and on the device of `like`."""

    def __init__(self, transforms: Sequence[Transform], like: Tensor) -> None:
        self.grid = transforms[0].grid
        self.moving_from_fixed = np.stack([t.moving_from_fixed for t in transforms])
        fields = [t.displacement_mm for t in transforms if t.displacement_mm is not None]
        self.displacement_mm = torch.stack(fields).to(like) if fields else None

    def on(self, nodes: Grid, cells: tuple[int, ...]) -> Tensor | None:
        """Displacements, `(batch, n, *nodes.shape)`, as means over the cells around `nodes` and in their units."""
        if self.displacement_mm is None:
            return None
        return displacement_vox_from_mm(cell_means(self.displacement_mm, cells), nodes)


class _LevelForce:
    """Gradient of the terms with respect to the velocity on one level of the pyramid."""

    def __init__(
        self,
        start: _Start,
        terms: Sequence[Term],
        factors: tuple[int, ...],
        ratios: tuple[int, ...],
        spacing_mm: float,
    ) -> None:
        self.level, n = cell_grid(start.grid, factors), start.grid.ndim
        cells = tuple(f * r for f, r in zip(factors, ratios, strict=True))
        nodes, like = cell_grid(start.grid, cells), terms[0].fixed
        moving = terms[0].moving
        voxel_from_fixed = moving.voxel_from_ras() @ start.moving_from_fixed
        from_cell = torch.tensor(voxel_from_fixed @ self.level.ras_from_voxel).to(like)
        self.start = apply_matrix(from_cell, voxel_coordinates(self.level.shape, like))
        self.linear = torch.tensor((voxel_from_fixed @ nodes.ras_from_voxel)[:, :n, :n]).to(like)
        self.ratios, self.before = ratios, start.on(nodes, cells)
        mask = moving.inside(self._through(self.before))
        self.terms = [
            (smoothed_moving(t.moving, spacing_mm), t.prepare(cell_means(t.fixed, factors), mask), t.weight)
            for t in terms
        ]

    def __call__(self, velocity: Tensor) -> Tensor:
        """Direction of ascent of the similarity at `exp(velocity)`, `(batch, n, *nodes)`, per node cell."""
        squarings = squarings_for(float(velocity.abs().max()), _FIRST_STEP_VOX)
        displacement = exp(velocity, squarings=squarings)
        if self.before is not None:
            displacement = compose(self.before, displacement)
        coordinates = self._through(displacement)
        pulls = (_pull(sample(moving, coordinates), loss, weight) for moving, loss, weight in self.terms)
        return cell_means(reduce(torch.add, pulls), self.ratios)

    def _through(self, displacement: Tensor | None) -> Tensor:
        """Where the cells lie in the moving images, voxels, after a displacement on the nodes."""
        if displacement is None:
            return self.start
        shift = torch.einsum("bcd,bd...->bc...", self.linear, displacement)
        return self.start + refine(shift, self.ratios, self.level.shape)


def _pull(moved: Tensor, loss: MovedLoss, weight: float) -> Tensor:
    """Where each voxel of the moved channels should look for a smaller loss, `(batch, n, *shape)`."""
    moved.requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(moved).sum() * -weight, moved)
    moved = moved.detach()
    channels = zip(torch.split(moved, 1, 1), torch.split(gradient, 1, 1), strict=True)
    return reduce(torch.add, (image_gradient(channel).mul_(pull) for channel, pull in channels))


def _ascend(
    force: Callable[[Tensor], Tensor], velocity: Tensor, pace: _Pace, nodes: Grid, expected: Tensor | None = None
) -> Tensor:
    """Smoothed steps of one level; each axis is paid by its spacing; what is expected is not smoothed."""
    isotropic = [float(s) for s in nodes.spacing_mm.min() / nodes.spacing_mm]
    update = torch.zeros_like(velocity)
    metric = velocity.new_tensor(isotropic).view(1, -1, *[1] * (velocity.ndim - 2)) ** 2
    update_sigma = [pace.update_sigma_vox * s for s in isotropic]
    velocity_sigma = [pace.velocity_sigma_vox * s for s in isotropic]
    smooth = _REGULARISERS[pace.regulariser]
    axes = tuple(range(1, velocity.ndim))
    for step in range(pace.steps):
        direction = gaussian(force(velocity), update_sigma).mul_(metric)
        longest = direction.square().sum(1, keepdim=True).amax(axes, keepdim=True).sqrt()
        length = pace.step_vox * (1 - (1 - pace.last_step) * step / pace.steps)
        update = update.mul_(pace.momentum).add_(direction.mul_(length / (longest + 1e-12)))
        if expected is None:
            velocity = smooth(velocity + update, velocity_sigma)
        else:
            velocity = smooth(velocity + update - expected, velocity_sigma) + expected
    return velocity


def image_gradient(image: Tensor) -> Tensor:
    """Central differences of `(batch, 1, *shape)`, `(batch, n, *shape)` per voxel, zero at the border."""
    gradient = image.new_zeros(image.shape[0], image.ndim - 2, *image.shape[2:])
    for axis in range(2, image.ndim):
        side = image.shape[axis]
        if side < 3:
            continue
        inner = gradient[:, axis - 2 : axis - 1].narrow(axis, 1, side - 2)
        torch.sub(image.narrow(axis, 2, side - 2), image.narrow(axis, 0, side - 2), out=inner)
    return gradient.mul_(0.5)


def refine_field(field_vox: Tensor, coarse: tuple[int, ...], fine: tuple[int, ...], shape: Sequence[int]) -> Tensor:
    """Field in units of cells of `coarse` voxels, on cells of `fine` voxels and in their units."""
    factors = [c / f for c, f in zip(coarse, fine, strict=True)]
    scale = field_vox.new_tensor(factors).view(1, -1, *[1] * (field_vox.ndim - 2))
    return refine(field_vox * scale, factors, shape)


def cell_ratios(grid: Grid, factors: tuple[int, ...], spacing_mm: float) -> tuple[int, ...]:
    """Cells of `factors` voxels in a cell of the velocity, which should be near `spacing_mm` wide."""
    widths = grid.spacing_mm * np.asarray(factors)
    return tuple(int(r) for r in np.maximum(1, np.round(spacing_mm / widths)))


def _too_coarse(grid: Grid, factors: tuple[int, ...]) -> bool:
    sides = [side / f for side, f in zip(grid.shape, factors, strict=True) if f > 1]
    return bool(sides) and min(sides) < _SMALLEST_SIDE
