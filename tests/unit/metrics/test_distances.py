"""Landmark and endpoint errors, and distances of surfaces, worked out by hand."""

import math

import numpy as np
import pytest
import torch

from covoxel.metrics import assd_mm, endpoint_error, hd95_mm, tre_mm
from covoxel.spatial import Grid, Transform

FLAT = Grid.from_spacing((6, 5, 4), (1.0, 2.0, 3.0))


def shifted(grid: Grid, by_mm: tuple[float, ...], displacement: bool) -> Transform:
    matrix = np.eye(grid.ndim + 1)
    if not displacement:
        matrix[: grid.ndim, grid.ndim] = by_mm
        return Transform(grid, matrix)
    u = torch.tensor(by_mm).view(-1, *[1] * grid.ndim).expand(-1, *grid.shape)
    return Transform(grid, matrix, u.contiguous())


@pytest.mark.parametrize("displacement", [False, True], ids=["matrix", "displacement"])
def test_landmarks_are_off_by_what_the_transform_leaves(grid: Grid, displacement: bool) -> None:
    fixed = grid.to_ras(np.array([[2.0, 3.0, 4.0], [5.5, 6.0, 7.0]]))
    transform = shifted(grid, (3.0, 0.0, 4.0), displacement)
    np.testing.assert_allclose(tre_mm(transform, fixed, fixed), [5, 5], atol=1e-5)
    np.testing.assert_allclose(tre_mm(transform, fixed, fixed + [3, 0, 4]), [0, 0], atol=1e-5)
    np.testing.assert_allclose(tre_mm(transform, fixed, fixed + [[3, 0, 4], [3, -2, 4]]), [0, 2], atol=1e-5)


def test_landmarks_follow_the_displacement_between_voxels() -> None:
    """A stretch of 10 % along i: at i = 2.5 the point moves 0.25."""
    u = torch.zeros(3, *FLAT.shape)
    u[0] = 0.1 * torch.arange(6.0)[:, None, None]
    point = FLAT.to_ras(np.array([[2.5, 2.0, 1.0]]))
    assert tre_mm(Transform(FLAT, np.eye(4), u), point, point)[0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        ([[0, 0, 0]], [[0, 0, 0], [1, 1, 1]]),
        ([[0, 0]], [[0, 0]]),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        ([[0, 0, math.nan]], [[0, 0, 0]]),
        ([[0, 0, 0]], [[0, math.inf, 0]]),
    ],
)
def test_landmarks_that_do_not_match_or_are_no_numbers_are_refused(fixed: object, moving: object) -> None:
    with pytest.raises(ValueError, match=r"must (both )?be"):
        tre_mm(Transform.identity(FLAT), fixed, moving)  # type: ignore[arg-type]


def test_endpoint_errors_are_in_mm_and_in_voxels() -> None:
    """Off by (0, 6, 0) mm on half of the voxels, which is 3 voxels of 2 mm."""
    u = torch.zeros(3, *FLAT.shape)
    u[1, :3] = 6
    error = endpoint_error(Transform(FLAT, np.eye(4), u), Transform.identity(FLAT))
    assert error.voxels == 120
    assert (error.mean_mm, error.maximum_mm) == (pytest.approx(3), pytest.approx(6))
    assert (error.mean_vox, error.maximum_vox) == (pytest.approx(1.5), pytest.approx(3))
    assert (error.median_mm, error.p95_mm) == (pytest.approx(3), pytest.approx(6))
    half = torch.zeros(FLAT.shape, dtype=torch.bool)
    half[3:] = True
    assert endpoint_error(Transform(FLAT, np.eye(4), u), Transform.identity(FLAT), half).maximum_mm == 0


def test_endpoints_count_and_not_how_matrix_and_displacement_share_the_work(grid: Grid) -> None:
    by = (3.0, -1.0, 2.0)
    error = endpoint_error(shifted(grid, by, True), shifted(grid, by, False))
    assert error.maximum_mm == pytest.approx(0, abs=1e-5)
    turned = np.eye(4)
    turned[:2, :2] = [[0, -1], [1, 0]]
    u = shifted(grid, by, True).displacement_mm
    assert endpoint_error(Transform(grid, turned, u), Transform(grid, turned)).mean_mm == pytest.approx(math.sqrt(14))


def test_transforms_of_two_grids_and_empty_masks_are_refused() -> None:
    still = Transform.identity(FLAT)
    with pytest.raises(ValueError, match="one grid"):
        endpoint_error(still, Transform.identity(Grid.from_spacing((6, 5, 4))))
    with pytest.raises(ValueError, match="not empty"):
        endpoint_error(still, still, torch.zeros(FLAT.shape, dtype=torch.bool))


def test_surfaces_of_shifted_boxes_are_as_far_apart_as_by_hand() -> None:
    """Boxes of 4 voxels along i, one or two of 2 mm apart: a line's surface is all of it.

    Along the line [2, 5] against [4, 7]: 2 and 3 are 4 and 2 mm from 4, 4 and 5 are 0; the same the other way.
    """
    a, b = torch.zeros(12, 1, dtype=torch.int64), torch.zeros(12, 1, dtype=torch.int64)
    a[2:6], b[4:8] = 1, 1
    assert assd_mm(a, b, [1], spacing_mm=(2.0, 1.0))[1] == pytest.approx((4 + 2) * 2 / 8)
    # 95 % between the two largest of 0, 0, 2, 4: position 2.85.
    assert hd95_mm(a, b, [1], spacing_mm=(2.0, 1.0))[1] == pytest.approx(2 + 0.85 * 2)


def test_only_the_surface_counts_and_not_what_is_inside() -> None:
    """A ball of 5 x 5 x 5 against its shell of one voxel: all surface of the ball is surface of the shell."""
    solid, hollow = torch.zeros(9, 9, 9, dtype=torch.int64), torch.zeros(9, 9, 9, dtype=torch.int64)
    solid[2:7, 2:7, 2:7] = 1
    hollow[2:7, 2:7, 2:7] = 1
    hollow[4, 4, 4] = 0
    there = assd_mm(solid, hollow, [1], spacing_mm=1.0)[1]
    # The hole makes its six neighbours a surface, one voxel below that of the ball; 98 points lie on both.
    assert there == pytest.approx(6 * 1 / (98 + 98 + 6))
