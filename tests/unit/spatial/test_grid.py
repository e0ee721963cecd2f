"""Grid, Image and Transform: what they refuse, and the grids derived from a grid."""

import numpy as np
import pytest
import torch

from covoxel.spatial import Grid, Image, Transform, resample, sample, warp


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4, 4), (4, 0, 4), (4, -1)])
def test_a_shape_is_two_or_three_positive_sides(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape must be 2 or 3 positive sides"):
        Grid(shape, np.eye(len(shape) + 1))


@pytest.mark.parametrize("size", [3, 5])
def test_a_matrix_has_one_row_more_than_the_grid_has_axes(size: int) -> None:
    with pytest.raises(ValueError, match=r"ras_from_voxel must be \(4, 4\)"):
        Grid((4, 4, 4), np.eye(size))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_matrix_is_finite_and_invertible(value: float) -> None:
    with pytest.raises(ValueError, match="finite and invertible"):
        Grid((4, 4, 4), np.diag([1.0, value, 1.0, 1.0]))


def test_the_matrix_of_a_grid_is_its_own_and_cannot_be_changed() -> None:
    matrix = np.eye(4)
    grid = Grid((4, 4, 4), matrix)
    matrix[0, 0] = 7
    assert grid.ras_from_voxel[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.ras_from_voxel[0, 0] = 2


def test_spacing_and_volume_are_those_of_the_voxels(grid: Grid) -> None:
    np.testing.assert_allclose(grid.spacing_mm, (1.0, 1.5, 2.5))
    assert grid.voxel_volume_mm == pytest.approx(1.0 * 1.5 * 2.5)
    assert grid.size == 19 * 15 * 11
    np.testing.assert_allclose(grid.centre_ras, (3, -5, 7), atol=1e-9)


def test_a_grid_of_a_spacing_is_centred_on_the_origin() -> None:
    grid = Grid.from_spacing((5, 4), (2.0, 3.0))
    np.testing.assert_allclose(grid.to_ras([[0, 0], [4, 3]]), [[-4, -4.5], [4, 4.5]])
    np.testing.assert_allclose(Grid.from_spacing((3, 3, 3), 2).spacing_mm, 2)


def test_a_cropped_voxel_stays_where_it_is(grid: Grid) -> None:
    part = grid.cropped((2, -3, 1), (5, 6, 7))
    assert part.shape == (5, 6, 7)
    np.testing.assert_allclose(part.to_ras((0, 0, 0)), grid.to_ras((2, -3, 1)))
    np.testing.assert_allclose(part.to_ras((1, 2, 3)), grid.to_ras((3, -1, 4)))


@pytest.mark.parametrize("shape", [(7, 15, 22), (38, 5, 1)])
def test_another_number_of_voxels_keeps_the_edges_of_the_field_of_view(grid: Grid, shape: tuple[int, ...]) -> None:
    other = grid.with_shape(shape)
    for of, sides in ((0, (0, 0, 0)), (1, (1, 1, 1))):
        own = grid.to_ras(np.array(sides) * grid.shape - 0.5)
        np.testing.assert_allclose(other.to_ras(np.array(sides) * shape - 0.5), own, atol=1e-9, err_msg=str(of))


def test_another_spacing_is_met_as_nearly_as_whole_voxels_allow(grid: Grid) -> None:
    other = grid.with_spacing(2.0)
    assert other.shape == (10, 11, 14)
    np.testing.assert_allclose(other.spacing_mm * other.shape, grid.spacing_mm * grid.shape)
    assert grid.with_spacing(1e6).shape == (1, 1, 1)


def test_grids_are_close_if_all_their_corners_are(grid: Grid) -> None:
    turned = grid.ras_from_voxel.copy()
    turned[:3, :3] += 1e-3
    assert grid.isclose(Grid(grid.shape, grid.ras_from_voxel + 1e-5 * np.eye(4, k=3)))
    assert not grid.isclose(Grid(grid.shape, turned))
    assert not grid.isclose(grid.cropped((0, 0, 0), (19, 15, 10)))
    assert not grid.isclose(grid.cropped((1, 0, 0), grid.shape))


def test_an_image_has_the_shape_of_its_grid(grid: Grid) -> None:
    with pytest.raises(ValueError, match=r"data must have the grid's shape \(19, 15, 11\), got \(11, 15, 19\)"):
        Image(torch.zeros(11, 15, 19), grid)


def test_a_transform_has_a_finite_matrix_and_a_displacement_on_its_grid(grid: Grid) -> None:
    with pytest.raises(ValueError, match="moving_from_fixed must be a finite"):
        Transform(grid, np.eye(3))
    with pytest.raises(ValueError, match="moving_from_fixed must be a finite"):
        Transform(grid, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match=r"displacement_mm must be \(3, 19, 15, 11\), got \(1, 3, 19, 15, 11\)"):
        Transform(grid, np.eye(4), torch.zeros(1, 3, 19, 15, 11))


def test_outside_its_grid_a_displacement_is_zero_and_the_matrix_still_counts(grid: Grid) -> None:
    matrix = np.eye(4)
    matrix[0, 3] = 4
    transform = Transform(grid, matrix, torch.ones(3, *grid.shape))
    outside, within = grid.to_ras(np.array([[-2.0, 3, 3], [3, 3, 3]]))
    np.testing.assert_allclose(transform.map([outside, within]), [outside + (4, 0, 0), within + (5, 1, 1)], atol=1e-6)


def test_a_transform_of_another_grid_is_refused(grid: Grid) -> None:
    image = Image(torch.zeros(grid.shape), grid)
    with pytest.raises(ValueError, match="transform must be defined on the grid"):
        resample(image, grid, Transform.identity(grid.cropped((1, 0, 0), grid.shape)))


def test_warp_refuses_two_grids_and_sample_a_wrong_number_of_coordinates() -> None:
    with pytest.raises(ValueError, match="must share one grid; use resample"):
        warp(torch.zeros(1, 1, 4, 5), torch.zeros(1, 2, 5, 4))
    with pytest.raises(ValueError, match="coordinates_vox must have 3 channels, got 2"):
        sample(torch.zeros(1, 1, 4, 5, 6), torch.zeros(1, 2, 4, 5))


def test_an_image_of_one_slice_is_sampled_in_its_plane() -> None:
    image = torch.rand(1, 1, 6, 5, 1)
    assert torch.allclose(warp(image, torch.zeros(1, 3, 6, 5, 1)), image, atol=1e-6)
