"""The one convention of docs/conventions.md: a shift in millimetres means the same in every orientation.

The phantom is linear in RAS+ mm, so that linear interpolation is exact; where it is expected is worked out here, from
the matrices alone. Half a voxel, a turned axis, a sign, LPS or a wrong unit anywhere fails in every orientation.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.spatial import Grid, Image, Transform, resample, resample_labels, resample_probabilities, warp
from covoxel.spatial.field import compose, displacement_mm_from_vox, displacement_vox_from_mm, jacobian

SLOPE = np.array([0.7, -1.1, 0.4])
SHIFT_MM = np.array([2.2, -1.3, 1.9])
TOLERANCE = 1e-3


@pytest.fixture(params=[3, 2], ids=["3-D", "2-D"])
def fixed_grid(request: pytest.FixtureRequest, grid: Grid) -> Grid:
    """Grid of each orientation, and its first two axes in the R-A plane."""
    return grid if request.param == 3 else in_plane(grid)


def in_plane(grid: Grid) -> Grid:
    kept = [0, 1, 3]
    return Grid(grid.shape[:2], grid.ras_from_voxel[np.ix_(kept, kept)])


def points(grid: Grid) -> NDArray[np.float64]:
    """`(*shape, n)` RAS+ mm, by the matrix and nothing of `covoxel`."""
    n = len(grid.shape)
    index = np.stack(np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij"), -1)
    return index @ grid.ras_from_voxel[:n, :n].T + grid.ras_from_voxel[:n, n]


def phantom(at_ras: NDArray[np.float64]) -> Tensor:
    """Intensity at `(*shape, n)` points; `(*shape)`."""
    return torch.tensor(at_ras @ SLOPE[: at_ras.shape[-1]] + 50, dtype=torch.float32)


def inside(at_ras: NDArray[np.float64], grid: Grid) -> Tensor:
    """Which points lie between the outer voxel centres of `grid`."""
    n = len(grid.shape)
    index = (at_ras - grid.ras_from_voxel[:n, n]) @ np.linalg.inv(grid.ras_from_voxel[:n, :n]).T
    within = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(-1)
    assert within.mean() > 0.1, "the test must compare something"
    return torch.tensor(within)


def constant_field(vector: NDArray[np.float64], grid: Grid) -> Tensor:
    """`(n, *shape)` float32."""
    return torch.tensor(vector[: grid.ndim], dtype=torch.float32).view(-1, *[1] * grid.ndim).expand(-1, *grid.shape)


def moving_grid(ndim: int) -> Grid:
    """Grid of another size, spacing and orientation than any fixed one; larger than they are."""
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.array([[-1, 0, 0], [0, 0, -1], [0, 1, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (1.7, 1.3, 1.2)
    shape = (23, 41, 39)
    matrix[:3, 3] = np.array([2.0, -4.0, 6.0]) - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    if ndim == 3:
        return Grid(shape, matrix)
    flat = np.array([[0, -1.3, 0], [1.7, 0, 0], [0, 0, 1]])
    flat[:2, 2] = np.array([2.0, -4.0]) - flat[:2, :2] @ np.array([12, 17])
    return Grid((25, 35), flat)


def turned(ndim: int) -> NDArray[np.float64]:
    """An affine map in RAS+ mm that no exchange of axes, signs or order leaves alone."""
    matrix = np.array([[0.98, -0.2, 0.05, 1.5], [0.17, 1.04, 0.1, -2.0], [-0.03, -0.12, 0.95, 0.8], [0, 0, 0, 1]])
    kept = [*range(ndim), 3]
    return matrix[np.ix_(kept, kept)]


def assert_same(found: Tensor, expected: Tensor, where: Tensor) -> None:
    torch.testing.assert_close(found[where], expected[where], atol=TOLERANCE, rtol=0)


def test_a_shift_in_millimetres_means_the_same_in_every_orientation(fixed_grid: Grid) -> None:
    shift = SHIFT_MM[: fixed_grid.ndim]
    target = points(fixed_grid) + shift
    shift_vox = displacement_vox_from_mm(constant_field(shift, fixed_grid)[None], fixed_grid)
    moved = warp(phantom(points(fixed_grid))[None, None], shift_vox)[0, 0]
    assert_same(moved, phantom(target), inside(target, fixed_grid))


def test_a_shift_of_one_voxel_is_a_column_of_the_matrix(fixed_grid: Grid) -> None:
    for axis in range(fixed_grid.ndim):
        one = torch.zeros(1, fixed_grid.ndim, *fixed_grid.shape)
        one[:, axis] = 1
        column = fixed_grid.ras_from_voxel[: fixed_grid.ndim, axis]
        torch.testing.assert_close(displacement_mm_from_vox(one, fixed_grid)[0], constant_field(column, fixed_grid))
        back = displacement_vox_from_mm(displacement_mm_from_vox(one, fixed_grid), fixed_grid)
        torch.testing.assert_close(back, one, atol=1e-5, rtol=0)


def test_images_of_two_grids_meet_in_the_world(fixed_grid: Grid) -> None:
    moving = moving_grid(fixed_grid.ndim)
    found = resample(Image(phantom(points(moving)), moving), fixed_grid)
    assert_same(found.data, phantom(points(fixed_grid)), inside(points(fixed_grid), moving))


def test_a_transform_moves_by_its_displacement_and_then_by_its_matrix(fixed_grid: Grid) -> None:
    n, moving = fixed_grid.ndim, moving_grid(fixed_grid.ndim)
    matrix, at = turned(n), points(fixed_grid)
    stretch = 0.1 * (at - at.reshape(-1, n).mean(0)) @ turned(n)[:n, :n]
    displacement_mm = torch.tensor(np.moveaxis(stretch + SHIFT_MM[:n], -1, 0), dtype=torch.float32)
    target = (at + stretch + SHIFT_MM[:n]) @ matrix[:n, :n].T + matrix[:n, n]
    transform = Transform(fixed_grid, matrix, displacement_mm)

    moved = resample(Image(phantom(points(moving)), moving), fixed_grid, transform)
    assert_same(moved.data, phantom(target), inside(target, moving))

    mapped = transform.map(at.reshape(-1, n))
    np.testing.assert_allclose(mapped, target.reshape(-1, n), atol=1e-4)

    vox = transform.moving_coordinates_vox(moving)[0].movedim(0, -1).double().numpy()
    np.testing.assert_allclose(vox @ moving.ras_from_voxel[:n, :n].T + moving.ras_from_voxel[:n, n], target, atol=1e-3)


def test_points_between_voxels_move_by_the_interpolated_displacement(fixed_grid: Grid) -> None:
    n = fixed_grid.ndim
    at = points(fixed_grid)
    slopes = 0.1 * turned(n)[:n, :n]
    displacement_mm = torch.tensor(np.moveaxis(at @ slopes.T + SHIFT_MM[:n], -1, 0), dtype=torch.float32)
    index = np.random.default_rng(0).uniform(0, 1, (50, n)) * (np.array(fixed_grid.shape) - 1)
    where = index @ fixed_grid.ras_from_voxel[:n, :n].T + fixed_grid.ras_from_voxel[:n, n]
    found = Transform(fixed_grid, np.eye(n + 1), displacement_mm).map(where)
    np.testing.assert_allclose(found, where + where @ slopes.T + SHIFT_MM[:n], atol=1e-3)


def test_labels_and_their_probabilities_fall_where_the_world_says(fixed_grid: Grid) -> None:
    n, moving = fixed_grid.ndim, moving_grid(fixed_grid.ndim)
    matrix = turned(n)
    target = points(fixed_grid) @ matrix[:n, :n].T + matrix[:n, n]
    # Labels 3 and 8 split by the plane phantom = 50; a voxel well away from it has one label alone around it.
    away = (phantom(target) - 50).abs() > 2 * float(moving.spacing_mm.max())
    clear = inside(target, moving) & away
    assert clear.sum() > 20
    expected = torch.where(phantom(target) > 50, 8, 3)
    labels = Image(torch.where(phantom(points(moving)) > 50, 8, 3), moving)
    transform = Transform(fixed_grid, matrix)
    assert torch.equal(resample_labels(labels, fixed_grid, transform).data[clear], expected[clear])
    shares = resample_probabilities(labels, torch.tensor([0, 3, 8]), fixed_grid, transform)
    torch.testing.assert_close(shares.sum(0), torch.ones(fixed_grid.shape))
    assert torch.equal(torch.tensor([0, 3, 8])[shares.argmax(0)][clear], expected[clear])


def test_grids_place_points_by_their_matrix(fixed_grid: Grid) -> None:
    index = np.stack(np.meshgrid(*[np.arange(side) for side in fixed_grid.shape], indexing="ij"), -1)
    np.testing.assert_allclose(fixed_grid.to_ras(index), points(fixed_grid), atol=1e-9)
    np.testing.assert_allclose(fixed_grid.to_voxel(points(fixed_grid)), index, atol=1e-9)
    first, last = points(fixed_grid)[(0,) * fixed_grid.ndim], points(fixed_grid)[(-1,) * fixed_grid.ndim]
    np.testing.assert_allclose(fixed_grid.centre_ras, (first + last) / 2, atol=1e-9)


def test_fields_compose_as_functions_and_their_jacobian_is_in_order(fixed_grid: Grid) -> None:
    n, shape = fixed_grid.ndim, fixed_grid.shape
    index = torch.stack(torch.meshgrid(*[torch.arange(side).float() for side in shape], indexing="ij"))
    middle = (torch.tensor(shape).view(-1, *[1] * n) - 1) / 2
    outer_matrix = 0.1 * torch.tensor(turned(n)[:n, :n], dtype=torch.float32)
    inner = 0.5 * constant_field(np.array([1.0, -2.0, 0.5]), fixed_grid) - 0.1 * (index - middle)
    outer = torch.einsum("cd,d...->c...", outer_matrix, index - middle)
    expected = inner + torch.einsum("cd,d...->c...", outer_matrix, index + inner - middle)
    found = compose(outer[None], inner[None])[0]
    within = tuple(slice(2, -2) for _ in range(n))
    torch.testing.assert_close(found[(slice(None), *within)], expected[(slice(None), *within)], atol=1e-4, rtol=0)
    expected_jacobian = torch.eye(n) + outer_matrix
    torch.testing.assert_close(jacobian(outer[None])[0].flatten(2)[:, :, 40], expected_jacobian)
