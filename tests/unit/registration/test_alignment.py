"""Alignment before a network: what the headers say, middle on middle, or an affine transform."""

import numpy as np
import pytest
import torch

from covoxel.registration import register
from covoxel.registration.alignment import align
from covoxel.registration.base import MovingBatch
from covoxel.spatial import Grid, Image, resample
from covoxel.spatial.smoothing import gaussian


def test_headers_are_trusted_by_none() -> None:
    grids = [Grid.from_spacing((9, 8, 7)).cropped([3, -1, 2], (6, 6, 6)), Grid.from_spacing((5, 5, 5), 2.0)]
    fixed = Image(torch.rand(9, 8, 7), Grid.from_spacing((9, 8, 7)))
    batch = MovingBatch.of([Image(torch.rand(grid.shape), grid) for grid in grids], "cpu")
    assert all(np.array_equal(found.moving_from_fixed, np.eye(4)) for found in align(fixed, batch, "none"))


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "whole"),
    [((9, 8), 1.0, True), ((12, 8), 1.0, True), ((12, 11), 1.0, True), ((12, 8), 1.5, False), ((6, 4), 2.0, False)],
)
def test_middle_comes_onto_middle_and_equal_voxels_onto_voxels(
    shape: tuple[int, ...], spacing_mm: float, whole: bool
) -> None:
    fixed = Image(torch.rand(9, 8), Grid.from_spacing((9, 8)))
    grid = Grid.from_spacing(shape, spacing_mm).cropped([40, -30], shape)
    (found,) = align(fixed, MovingBatch.of([Image(torch.rand(shape), grid)], "cpu"), "centre")
    first = grid.to_voxel(found.map(fixed.grid.to_ras([[0.0, 0.0]])))
    assert np.allclose(first, np.round(first), atol=1e-9) == whole
    away = found.map(fixed.grid.centre_ras[None])[0] - grid.centre_ras
    assert np.abs(away).max() <= (0.5 if whole else 0) + 1e-9
    np.testing.assert_array_equal(found.moving_from_fixed[:2, :2], np.eye(2))


def test_voxels_fall_on_voxels_of_a_flipped_image_too() -> None:
    fixed = Image(torch.rand(9, 8), Grid.from_spacing((9, 8), (1.0, 2.0)))
    flipped = Grid((11, 12), [[0, -1.0, 40], [2.0, 0, 3], [0, 0, 1]])
    (found,) = align(fixed, MovingBatch.of([Image(torch.rand(11, 12), flipped)], "cpu"), "centre")
    first = flipped.to_voxel(found.map(fixed.grid.to_ras([[0.0, 0.0], [1.0, 0.0]])))
    np.testing.assert_allclose(first, np.round(first), atol=1e-9)


def test_an_unknown_alignment_is_refused() -> None:
    image = Image(torch.rand(9, 8), Grid.from_spacing((9, 8)))
    with pytest.raises(ValueError, match="alignment must be none, centre or affine, got 'center'"):
        align(image, MovingBatch.of([image], "cpu"), "center")  # type: ignore[arg-type]


def test_svf_deforms_from_the_alignment_it_is_given() -> None:
    grid = Grid.from_spacing((40, 36))
    noise = torch.rand(1, 1, 40, 36, generator=torch.Generator().manual_seed(0))
    fixed = Image(gaussian(noise, [2.0, 2.0])[0, 0], grid)
    moving = Image(fixed.data.roll(2, 0), grid.cropped([6, 0], grid.shape))
    (from_middle,) = register("svf", fixed, [moving], alignment="centre")
    (from_affine,) = register("svf", fixed, [moving])
    (middle,) = align(fixed, MovingBatch.of([moving], "cpu"), "centre")
    np.testing.assert_array_equal(from_middle.moving_from_fixed, middle.moving_from_fixed)
    assert not np.allclose(from_affine.moving_from_fixed, middle.moving_from_fixed, atol=0.1)
    inner = (slice(6, -6), slice(6, -6))
    before, after = (
        (resample(moving, grid, found).data - fixed.data)[inner].square().mean() for found in (middle, from_middle)
    )
    assert after < 0.1 * before
    with pytest.raises(ValueError, match="alignment must be none, centre or affine, got 'center'"):
        register("svf", fixed, [moving], alignment="center")
