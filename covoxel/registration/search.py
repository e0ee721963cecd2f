"""Start of a deformation: for each cell all displacements within reach are tried, and coupled to those around it."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

from covoxel.losses.box import box_sum
from covoxel.losses.similarity.mind import mind_descriptor
from covoxel.registration.base import MovingBatch
from covoxel.registration.descent import NodeVelocity, refine_field
from covoxel.registration.pyramid import cell_factors, cell_grid, smoothed_moving
from covoxel.spatial import Grid, Image, Transform, voxel_coordinates
from covoxel.spatial.field import compose
from covoxel.spatial.smoothing import cell_means, gaussian
from covoxel.spatial.transform import apply_matrix
from covoxel.spatial.velocity import exp
from covoxel.spatial.warp import sample

_FEWEST = 16  # cells along the shortest side of the coarsest level
_MOST = 250_000  # cells of the finest level
_COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Cost of a cell's distance from where its neighbours are, in the contrast of the costs; ever stronger."""
_EVEN = 1.0  # Gaussian smoothing, in cells, of what was found,
_EVEN_STEP = 0.5  # and of the velocity that is fitted to it
_FITTING = 6


def searched_velocity(
    fixed: Image, moving: MovingBatch, start: Sequence[Transform], reach: Sequence[int]
) -> NodeVelocity | None:
    r"""Velocity of a diffeomorphism that brings like to like, found by trying and not by descent.

    On each level, coarse to fine, the cells of the fixed image are compared with those of the moved image at all
    displacements within reach, by descriptors that do not depend on contrast (MIND). The best displacement of each
    cell is coupled to the mean of those around it, ever more strongly, so that they agree where cells alone cannot
    tell. A velocity is fitted to the smoothed displacements: its exponential cannot fold. It finds displacements of
    `reach` cells of the coarsest level, which a descent from zero does not, and is blind to detail below a cell.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    start
        One a moving image, without displacement, on the grid of the fixed image.
    reach
        Cells in which displacements are tried, to either side: of the coarsest level, whose shortest side has 16
        cells or more, and of each finer one down to cells of two voxels; the last holds for all that follow. Levels of
        more than 250,000 cells are left out.

    Returns
    -------
    NodeVelocity or None
        None if the image is too small for a level. The cost is `(2 reach + 1)^n` differences of 12 numbers a cell, and
        as much memory, in float32, as a cell has displacements.

    References
    ----------
    Siebert et al., ConvexAdam: self-configuring dual-optimisation-based 3D multitask medical image registration, IEEE
    Trans Med Imaging 2024. Theirs goes on by gradients of the same descriptors, with both directions made consistent.
    """
    found: NodeVelocity | None = None
    for (cells, power), far in zip(_levels(fixed.grid), _lasting(reach), strict=False):
        level = _Level(fixed, moving, cells, power, far)
        rows = []
        for row, transform in enumerate(start):
            before = None if found is None else found.velocity_vox[row : row + 1]
            before = None if before is None or found is None else refine_field(before, found.cells, cells, level.shape)
            more = _velocity(_coupled(level.costs(row, transform, before), far))
            rows.append(more if before is None else gaussian(before + more, [_EVEN_STEP] * fixed.grid.ndim))
        found = NodeVelocity(torch.cat(rows), cells)
    return found


def _levels(grid: Grid) -> list[tuple[tuple[int, ...], int]]:
    """Voxels of a cell, along each axis, and power of two of its width, of each level, coarse to fine."""
    base, power = float(grid.spacing_mm.min()), 1
    levels: list[tuple[tuple[int, ...], int]] = []
    while True:
        cells = cell_factors(grid, base * 2**power)
        shape = cell_grid(grid, cells).shape
        if min(shape) < _FEWEST:
            return levels[::-1]
        if prod(shape) <= _MOST:
            levels.append((cells, power))
        power += 1


def _lasting(values: Sequence[int]) -> Iterator[int]:
    """The values, the last of them for ever."""
    yield from values
    while True:
        yield values[-1]


class _Level:
    """Fixed and moving images of one level, described by small cells."""

    def __init__(self, fixed: Image, moving: MovingBatch, cells: tuple[int, ...], power: int, reach: int) -> None:
        grid, spacing = fixed.grid, float(fixed.grid.spacing_mm.min()) * 2 ** (power - 1)
        small = tuple(
            max(1, c // max(1, round(c / f))) for c, f in zip(cells, cell_factors(grid, spacing), strict=True)
        )
        self.ratio = tuple(c // s for c, s in zip(cells, small, strict=True))
        self.shape, self.reach = cell_grid(grid, cells).shape, reach
        self.small, self.moving = cell_grid(grid, small), moving
        data = fixed.data[None, None].float()
        self.fixed = cell_means(mind_descriptor(cell_means(data, small), 1), self.ratio)
        self.smooth = smoothed_moving(moving, spacing)

    def costs(self, row: int, transform: Transform, velocity: Tensor | None) -> Tensor:
        """How unlike each cell is to each displaced one, `((2 reach + 1)^n, *cells)`, means over its neighbours."""
        described, n = self._described(row, transform, velocity), self.fixed.ndim - 2
        costs = self.fixed.new_empty(((2 * self.reach + 1) ** n, 1, *self.shape))
        for cost, step in zip(costs, product(range(2 * self.reach + 1), repeat=n), strict=True):
            there = tuple(slice(s, s + side) for s, side in zip(step, self.shape, strict=True))
            torch.sum((described[:, :, *there] - self.fixed).square_(), 1, out=cost)
        return box_sum(costs, 1)[:, 0] / box_sum(torch.ones_like(costs[:1]), 1)[0]

    def _described(self, row: int, transform: Transform, velocity: Tensor | None) -> Tensor:
        """Descriptors of the moved image, `reach` cells wider on every side."""
        n, like = len(self.shape), self.fixed
        per_cell = like.new_tensor(self.ratio).view(1, -1, *[1] * n)
        wide = tuple((side + 2 * self.reach) * r for side, r in zip(self.shape, self.ratio, strict=True))
        at = voxel_coordinates(wide, like) - self.reach * per_cell
        if velocity is not None:
            at = at + sample(exp(velocity), (at + 0.5) / per_cell - 0.5) * per_cell
        matrix = self.moving.grids[row].voxel_from_ras @ transform.moving_from_fixed @ self.small.ras_from_voxel
        moved = sample(self.smooth[row : row + 1], apply_matrix(torch.tensor(matrix[None]).to(like), at))
        return cell_means(mind_descriptor(moved, 1), self.ratio)


def _coupled(costs: Tensor, reach: int) -> Tensor:
    """Displacements, `(1, n, *shape)` cells, of small cost that agree with those around them."""
    n = costs.ndim - 1
    steps = torch.tensor(list(product(range(-reach, reach + 1), repeat=n)), dtype=costs.dtype, device=costs.device)
    costs = costs / ((costs.mean(0) - costs.amin(0)).mean() + torch.finfo(costs.dtype).tiny)
    far = steps.square().sum(1).view(-1, *[1] * n)
    field = _mean_around(steps[costs.argmin(0)].movedim(-1, 0)[None])
    for weight in _COUPLING:
        # |step - field|² less |field|², which is the same for all steps.
        away = far - 2 * torch.tensordot(steps, field[0], 1)
        field = _mean_around(steps[away.mul_(weight).add_(costs).argmin(0)].movedim(-1, 0)[None])
    return field


def _mean_around(field: Tensor) -> Tensor:
    return box_sum(field.contiguous(), 1) / box_sum(torch.ones_like(field[:, :1]), 1)


def _velocity(displacement: Tensor) -> Tensor:
    """Smooth velocity whose exponential is near a displacement, both `(1, n, *shape)`."""
    n = displacement.ndim - 2
    wanted = gaussian(displacement, [_EVEN] * n)
    velocity = wanted
    for _ in range(_FITTING):
        velocity = gaussian(velocity + compose(exp(-velocity), wanted), [_EVEN_STEP] * n)
    return velocity
