"""Folding against fields whose Jacobian is known."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from covoxel.metrics import folding
from covoxel.metrics.folding import determinants
from covoxel.spatial import Grid, Transform
from covoxel.spatial.field import displacement_vox_from_mm


def points(grid: Grid) -> torch.Tensor:
    axes = np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij")
    return torch.as_tensor(grid.to_ras(np.stack(axes, -1)) - grid.centre_ras, dtype=torch.float32).movedim(-1, 0)


def linear(grid: Grid, matrix: np.ndarray) -> Transform:
    """Transform whose displacement is `matrix @ x`."""
    u = torch.einsum("cd,d...->c...", torch.as_tensor(matrix, dtype=torch.float32), points(grid))
    return Transform(grid, np.eye(grid.ndim + 1), u)


def test_the_identity_does_not_fold(grid: Grid) -> None:
    result = folding(Transform.identity(grid))
    assert (result.percent, result.sd_log_jacobian, result.minimum, result.maximum) == (0.0, 0.0, 1.0, 1.0)
    assert result.voxels == grid.size


@pytest.mark.parametrize("plane", [False, True], ids=["3-D", "2-D"])
def test_a_linear_field_has_its_determinant_on_every_grid(grid: Grid, plane: bool) -> None:
    if plane:
        grid = Grid(grid.shape[:2], np.array([[-1.2, 0.3, 4.0], [0.2, 1.7, -3.0], [0.0, 0.0, 1.0]]))
    n = grid.ndim
    matrix = np.array([[0.1, 0.2, -0.1], [0.0, -0.2, 0.1], [0.05, 0.0, 0.3]])[:n, :n]
    result = folding(linear(grid, matrix))
    expected = float(np.linalg.det(np.eye(n) + matrix))
    assert result.minimum == pytest.approx(expected, rel=1e-4)
    assert result.maximum == pytest.approx(expected, rel=1e-4)
    assert result.sd_log_jacobian < 1e-4


def test_the_matrix_of_a_transform_counts(grid: Grid) -> None:
    matrix = np.diag([1.1, 0.9, 1.3, 1.0])
    assert folding(Transform(grid, matrix)).minimum == pytest.approx(1.1 * 0.9 * 1.3, rel=1e-6)
    field = linear(grid, 0.1 * np.eye(3)).displacement_mm
    assert folding(Transform(grid, matrix, field)).minimum == pytest.approx(1.1**3 * 1.1 * 0.9 * 1.3, rel=1e-4)


def test_a_mirror_folds_everywhere_and_a_mask_chooses(grid: Grid) -> None:
    u = linear(grid, np.diag([-2.0, 0.0, 0.0])).displacement_mm
    assert u is not None
    assert folding(Transform(grid, np.eye(4), u)).percent == 100.0
    half = torch.zeros(grid.shape, dtype=torch.bool)
    half[: grid.shape[0] // 2] = True
    kept = torch.where(half, u, 0.0)
    away = torch.ones_like(half)
    away[: grid.shape[0] // 2 + 1] = False
    result = folding(Transform(grid, np.eye(4), kept), away)
    assert (result.percent, result.voxels) == (0.0, int(away.sum()))


def test_the_spread_of_log_jacobian_is_true_and_the_leaderboards_is_labelled() -> None:
    """A stretch along i whose determinant is log-normal with a known standard deviation."""
    generator = torch.Generator().manual_seed(0)
    slopes = torch.exp(0.3 * torch.randn(4000, generator=generator))
    grid = Grid.from_spacing((4001, 5))
    position = torch.cat([torch.zeros(1), slopes.cumsum(0)]) - torch.arange(4001)
    u = torch.stack([position[:, None].expand(4001, 5), torch.zeros(4001, 5)])
    determinant = determinants(Transform(grid, np.eye(3), u))
    expected = ((slopes[1:] + slopes[:-1]) / 2).log().std(correction=0)
    inner = torch.zeros(4001, 5, dtype=torch.bool)
    inner[1:-1] = True
    result = folding(Transform(grid, np.eye(3), u), inner)
    assert result.sd_log_jacobian == pytest.approx(float(expected), rel=1e-3)
    published = (determinant[2:-2, 2:-2].double() + 3).log().std(correction=0)
    assert result.sd_log_jacobian_learn2reg == pytest.approx(float(published), rel=1e-3)
    assert result.sd_log_jacobian_learn2reg < 0.35 * result.sd_log_jacobian


def test_one_slice_is_a_plane() -> None:
    grid = Grid.from_spacing((8, 7, 1))
    u = torch.zeros(3, 8, 7, 1)
    u[0] = 0.5 * torch.arange(8.0)[:, None, None]
    assert folding(Transform(grid, np.eye(4), u)).minimum == pytest.approx(1.5)


def test_an_empty_mask_is_refused_and_a_fold_everywhere_has_no_logarithm() -> None:
    grid = Grid.from_spacing((5, 5))
    with pytest.raises(ValueError, match="not empty"):
        folding(Transform.identity(grid), torch.zeros(5, 5, dtype=torch.bool))
    assert math.isnan(folding(Transform(grid, np.diag([-1.0, 1.0, 1.0]))).sd_log_jacobian)


def learn2reg(displacement_vox: np.ndarray) -> float:
    """The leaderboards' procedure, step by step, from a displacement `(3, i, j, k)` in voxels."""
    slopes = np.zeros((3, 3, *displacement_vox.shape[1:]))
    for axis in range(3):
        kernel = np.zeros([3 if axis == d else 1 for d in range(3)])
        kernel.ravel()[:] = (-0.5, 0, 0.5)
        for component in range(3):
            slopes[component, axis] = ndimage.correlate(displacement_vox[component], kernel, mode="constant")
    matrix = (slopes + np.eye(3).reshape(3, 3, 1, 1, 1))[:, :, 2:-2, 2:-2, 2:-2]
    determinant = np.linalg.det(np.moveaxis(matrix, (0, 1), (-2, -1)))
    return float(np.log((determinant + 3).clip(1e-9, 1e9)).std())


def test_the_leaderboards_number_is_theirs_to_the_digit(grid: Grid) -> None:
    u = torch.randn(3, *grid.shape, generator=torch.Generator().manual_seed(3))
    expected = learn2reg(displacement_vox_from_mm(u[None], grid)[0].double().numpy())
    assert folding(Transform(grid, np.eye(4), u)).sd_log_jacobian_learn2reg == pytest.approx(expected, rel=1e-5)


def test_a_grid_without_an_inside_has_no_leaderboard_number() -> None:
    assert math.isnan(folding(Transform.identity(Grid.from_spacing((9, 4)))).sd_log_jacobian_learn2reg)
