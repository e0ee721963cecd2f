"""Engine svf: affine, then a stationary velocity field a pair, coarse to fine, all moving images in one batch."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.registration.affine import affine
from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.registration.objective import Freedom
from covoxel.registration.pyramid import Level, cell_factors, cell_grid, level_of, smoothed_moving
from covoxel.spatial import Grid, Image, Transform, voxel_coordinates
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.smoothing import bending_flow, cell_means, gaussian, refine
from covoxel.spatial.transform import apply_matrix
from covoxel.spatial.velocity import exp, squarings_for
from covoxel.spatial.warp import sample

Regulariser = Literal["diffusion", "bending"]

_REGULARISERS: dict[Regulariser, Callable[[Tensor, Sequence[float]], Tensor]] = {
    "diffusion": gaussian,
    "bending": bending_flow,
}
_AFFINE_VOXELS = 10_000
"""Finest level of the affine part: the deformation makes good what is left over."""

_FIRST_STEP_VOX = 0.5
"""First step of the exponential during the descent; the result takes steps half as long."""

_SMALLEST_SIDE = 10
"""A level whose shortest subdivided side would have fewer cells is left out."""


@ENGINES.register("svf")
def svf(
    fixed: Image,
    moving: MovingBatch,
    *,
    freedom: Freedom = "affine",
    search: bool = True,
    affine_similarity: str | None = None,
    similarity: str = "lncc",
    radius: int = 2,
    regulariser: Regulariser = "diffusion",
    iterations: tuple[int, ...] = (100, 80, 20, 12),
    step_vox: float = 0.5,
    momentum: float = 0.5,
    update_sigma_vox: tuple[float, ...] = (2.0, 2.0, 2.0, 1.0),
    velocity_sigma_vox: tuple[float, ...] = (1.0, 1.0, 1.0, 0.5),
) -> list[Transform]:
    r"""Register by an affine transform and a diffeomorphism :math:`\exp(v)`.

    The velocity lives on cells of two voxels. A step warps the moving images once, takes the gradient of the
    similarity at the moved images, multiplies it by the gradient of the moved images (the first-order gradient of
    log-domain demons), smooths it, scales it to at most `step_vox` and adds it to the velocity, which is then
    smoothed by the flow of the regulariser. Nothing is differentiated through the exponential.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    freedom, search
        Of the affine part, as for `affine`.
    affine_similarity
        Of the affine part; by default as `similarity`.
    similarity, radius
        A name of `covoxel.losses.SIMILARITIES` and the half-width of its window, cells of the level.
    regulariser
        "diffusion" (Gaussian smoothing) or "bending" (the flow of the bending energy, which keeps long waves better;
        the default strengths are chosen for diffusion).
    iterations
        Steps a level, coarse to fine; the last level has the full resolution. Levels too coarse for the image
        are left out.
    step_vox
        Length of the largest update of a pair in a step, cells of the velocity's grid.
    momentum
        Share of the last update that is added to the next.
    update_sigma_vox, velocity_sigma_vox
        Strength of the smoothing of updates, and of the velocity after each step, cells of its grid; a value a level,
        the last for the finest: strong where far matches are sought, weak where detail is. Of too few values the
        first serves all coarser levels.

    Returns
    -------
    list of Transform
        With a displacement on the fixed grid.

    References
    ----------
    Vercauteren et al., Symmetric log-domain diffeomorphic registration, MICCAI 2008.
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Med Image Anal 2008.
    """
    levels = len(iterations)
    schedule = zip(iterations, _levels(update_sigma_vox, levels), _levels(velocity_sigma_vox, levels), strict=True)
    initial = affine(
        fixed,
        moving,
        freedom=freedom,
        similarity=affine_similarity or similarity,
        search=search,
        iterations=(40, 20),
        finest_voxels=_AFFINE_VOXELS,
    )
    pairs = _Pairs(fixed, moving, np.stack([t.moving_from_fixed for t in initial]))
    base = float(fixed.grid.spacing_mm.min())
    smooth = _REGULARISERS[regulariser]
    velocity: Tensor | None = None
    coarser: tuple[int, ...] = ()
    for power, (steps, update_sigma, velocity_sigma) in zip(reversed(range(len(iterations))), schedule, strict=True):
        factors = cell_factors(fixed.grid, base * 2**power)
        if power > 0 and _too_coarse(fixed.grid, factors):
            continue
        ratios = cell_ratios(fixed.grid, factors, base * 2 ** max(power, 1))
        cells = tuple(f * r for f, r in zip(factors, ratios, strict=True))
        nodes = cell_grid(fixed.grid, cells)
        if velocity is None:
            velocity = pairs.data.new_zeros(len(moving.grids), fixed.grid.ndim, *nodes.shape)
        else:
            velocity = refine_field(velocity, coarser, cells, nodes.shape)
        level = _LevelForce(
            pairs, level_of(pairs.fixed, fixed.grid, factors), ratios, nodes, similarity, radius, base * 2**power
        )
        isotropic = tuple(float(s) for s in nodes.spacing_mm.min() / nodes.spacing_mm)
        velocity = _ascend(level, velocity, steps, smooth, isotropic, step_vox, momentum, update_sigma, velocity_sigma)
        coarser = cells
    if velocity is None:
        return initial
    displacement_vox = refine_field(exp(velocity), coarser, (1,) * fixed.grid.ndim, fixed.grid.shape)
    displacement_mm = displacement_mm_from_vox(displacement_vox, fixed.grid)
    return [Transform(fixed.grid, t.moving_from_fixed, u) for t, u in zip(initial, displacement_mm, strict=True)]


def _levels(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """The values of the `count` finest levels; the first of them serves coarser levels that have none."""
    if not values:
        raise ValueError("update_sigma_vox and velocity_sigma_vox must have a value at least, got ()")
    return (values[0],) * (count - len(values)) + values[-count:]


class _Pairs:
    """Fixed image, moving images and their affine alignment."""

    def __init__(self, fixed: Image, moving: MovingBatch, moving_from_fixed: object) -> None:
        self.fixed = fixed.data[None, None].float()
        self.moving = moving
        self.data = moving.data
        self.moving_voxel_from_ras = moving.voxel_from_ras() @ np.asarray(moving_from_fixed)


class _LevelForce:
    """Gradient of the similarity with respect to the velocity on one level of the pyramid."""

    def __init__(
        self,
        pairs: _Pairs,
        level: Level,
        ratios: tuple[int, ...],
        nodes: Grid,
        similarity: str,
        radius: int,
        spacing_mm: float,
    ) -> None:
        n = nodes.ndim
        self.shape, self.ratios = level.grid.shape, ratios
        from_cell = pairs.moving_voxel_from_ras @ level.grid.ras_from_voxel
        self.start = apply_matrix(torch.tensor(from_cell).to(pairs.data), voxel_coordinates(self.shape, pairs.data))
        from_node = pairs.moving_voxel_from_ras @ nodes.ras_from_voxel
        self.linear = torch.tensor(from_node[:, :n, :n]).to(pairs.data)
        self.moving = smoothed_moving(pairs.moving, spacing_mm)
        self.loss: MovedLoss = SIMILARITIES[similarity](level.fixed, pairs.moving.inside(self.start), radius=radius)

    def __call__(self, velocity: Tensor) -> Tensor:
        """Direction of ascent of the similarity at `exp(velocity)`, `(batch, n, *nodes)`, per node cell."""
        squarings = squarings_for(float(velocity.abs().max()), _FIRST_STEP_VOX)
        shift = torch.einsum("bcd,bd...->bc...", self.linear, exp(velocity, squarings=squarings))
        coordinates = self.start + refine(shift, self.ratios, self.shape)
        moved = sample(self.moving, coordinates).requires_grad_()
        with torch.enable_grad():
            loss = self.loss(moved).sum()
            (gradient,) = torch.autograd.grad(loss, moved)
        slopes = image_gradient(moved.detach())
        return cell_means(slopes.mul_(-gradient), self.ratios)


def _ascend(
    force: Callable[[Tensor], Tensor],
    velocity: Tensor,
    steps: int,
    smooth: Callable[[Tensor, Sequence[float]], Tensor],
    isotropic: tuple[float, ...],
    step_vox: float,
    momentum: float,
    update_sigma_vox: float,
    velocity_sigma_vox: float,
) -> Tensor:
    """`steps` smoothed steps; `isotropic` is the smallest spacing over that of each axis."""
    update = torch.zeros_like(velocity)
    metric = velocity.new_tensor(isotropic).view(1, -1, *[1] * (velocity.ndim - 2)) ** 2
    update_sigma = [update_sigma_vox * s for s in isotropic]
    velocity_sigma = [velocity_sigma_vox * s for s in isotropic]
    axes = tuple(range(1, velocity.ndim))
    for _ in range(steps):
        direction = gaussian(force(velocity), update_sigma).mul_(metric)
        longest = direction.square().sum(1, keepdim=True).amax(axes, keepdim=True).sqrt()
        update = update.mul_(momentum).add_(direction.mul_(step_vox / (longest + 1e-12)))
        velocity = smooth(velocity + update, velocity_sigma)
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
