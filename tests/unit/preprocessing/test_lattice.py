"""Grids that share voxels: copies are exact, the way back is exact, and grids that do not share are not taken."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from covoxel.preprocessing import canonical, canonical_grid, copy_onto, crop, foreground_box, shared_lattice
from covoxel.preprocessing.cropping import Box
from covoxel.spatial import Grid, Image, resample


def numbered(grid: Grid) -> Image:
    """Every voxel its own number."""
    return Image(torch.arange(1, grid.size + 1).reshape(grid.shape), grid)


def world_of(image: Image) -> dict[int, tuple[float, ...]]:
    """World position of every number, rounded to 1e-6 mm."""
    index = np.stack(np.meshgrid(*[np.arange(s) for s in image.grid.shape], indexing="ij"), -1)
    points = image.grid.to_ras(index).reshape(-1, image.grid.ndim).round(6) + 0.0
    return dict(zip(image.data.reshape(-1).tolist(), map(tuple, points.tolist()), strict=True))


def plane(grid: Grid) -> Grid:
    matrix = np.eye(3)
    matrix[:2, :2] = [[0.3, -1.4], [-1.1, 0.2]]
    return Grid(grid.shape[:2], matrix)


def test_canonical_moves_no_voxel_in_the_world_and_points_to_ras(grid: Grid) -> None:
    for own in (grid, plane(grid)):
        image = numbered(own)
        result = canonical(image)
        cosines = result.grid.ras_from_voxel[: own.ndim, : own.ndim] / result.grid.spacing_mm
        assert (np.diag(cosines) > 0).all()
        turns = (sum(cosines[d, a] for d, a in enumerate(order)) for order in permutations(range(own.ndim)))
        assert np.trace(cosines) == pytest.approx(max(turns))
        assert world_of(result) == world_of(image)


def test_canonical_is_undone_bit_for_bit(grid: Grid) -> None:
    for own in (grid, plane(grid)):
        image = Image(torch.randn(own.shape), own)
        back = copy_onto(canonical(image), own)
        assert torch.equal(back.data, image.data)
        assert back.grid is own


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_all_48_orientations_become_one(order: tuple[int, ...], grid: Grid) -> None:
    turn = np.linalg.qr(np.eye(3) + 0.1 * np.array([[0, 1, -2], [-1, 0, 1], [2, -1, 0]]))[0]
    turn *= np.sign(np.diag(turn))
    straight = np.eye(4)
    straight[:3, :3] = turn @ np.diag([1.0, 1.5, 2.5])
    expected = numbered(Grid((4, 5, 6), straight))
    for signs in product((1, -1), repeat=3):
        matrix = np.eye(4)
        matrix[:3, :3] = straight[:3, order] * signs
        shape = tuple(expected.grid.shape[a] for a in order)
        first = np.array([0 if s > 0 else n - 1 for s, n in zip(signs, shape, strict=True)])
        matrix[:3, 3] = straight[:3, 3] - matrix[:3, :3] @ first
        result = canonical(copy_onto(expected, Grid(shape, matrix)))
        assert result.grid.isclose(expected.grid)
        assert torch.equal(result.data, expected.data)


def test_a_canonical_grid_stays_the_very_same() -> None:
    grid = Grid.from_spacing((3, 4, 5), (1, 2, 3))
    assert canonical_grid(grid) is grid


@given(
    start=st.tuples(*[st.integers(-6, 14)] * 3),
    shape=st.tuples(*[st.integers(1, 12)] * 3),
)
def test_crop_and_pad_agree_with_resampling_and_come_back(start: tuple[int, ...], shape: tuple[int, ...]) -> None:
    matrix = np.diag([-1.0, 1.5, 2.5, 1.0])
    image = numbered(Grid((9, 8, 7), matrix))
    part = crop(image, Box(start, shape))
    expected = resample(Image(image.data.float(), image.grid), part.grid, interpolation="nearest")
    assert torch.equal(part.data, expected.data.long())
    back = copy_onto(part, image.grid)
    kept = back.data != 0
    assert torch.equal(back.data[kept], image.data[kept])
    assert int(kept.sum()) == int((part.data != 0).sum())


def test_fill_is_what_is_put_outside(grid: Grid) -> None:
    padded = crop(Image(torch.ones(grid.shape), grid), Box((-2, 0, 0), (3, *grid.shape[1:])), fill=-5)
    assert padded.data[:, 0, 0].tolist() == [-5, -5, 1]


@pytest.mark.parametrize("change", ["half voxel", "two spacings", "small turn", "shear", "plane"])
def test_grids_that_do_not_share_voxels_are_told_apart(change: str, grid: Grid) -> None:
    matrix = grid.ras_from_voxel.copy()
    if change == "half voxel":
        matrix[:3, 3] += 0.5 * matrix[:3, 1]
    elif change == "two spacings":
        matrix[:3, 0] *= 2
    elif change == "small turn":
        turn = np.array([[np.cos(0.01), -np.sin(0.01), 0], [np.sin(0.01), np.cos(0.01), 0], [0, 0, 1]])
        matrix[:3, :3] = turn @ matrix[:3, :3]
    elif change == "shear":
        matrix[:3, 0] += matrix[:3, 1]
    other = Grid(grid.shape, matrix) if change != "plane" else plane(grid)
    assert shared_lattice(grid, other) is None
    assert shared_lattice(grid, grid) is not None
    with pytest.raises(ValueError, match="must share the voxels"):
        copy_onto(Image(torch.zeros(grid.shape), grid), other)


def test_a_single_slice_does_not_hide_another_spacing() -> None:
    thin = Grid((5, 5, 1), np.diag([1.0, 1.0, 3.0, 1.0]))
    thick = Grid((5, 5, 1), np.diag([1.0, 1.0, 3.1, 1.0]))
    assert shared_lattice(thin, thick) is None


def test_the_foreground_box_holds_the_object_and_its_margin(grid: Grid) -> None:
    for background, outlier in ((0.0, 0.0), (-1024.0, 0.0), (0.0, 0.05)):
        data = torch.full(grid.shape, background)
        if outlier:
            data = data + outlier * torch.rand(grid.shape)
        data[6:10, 5:9, 4:8] = background + 50
        box = foreground_box(Image(data, grid), margin_mm=1.6)
        assert box == Box((4, 3, 3), (8, 8, 6))


def test_the_box_never_leaves_the_image_and_a_negative_margin_is_refused(grid: Grid) -> None:
    image = Image(torch.rand(grid.shape), grid)
    assert foreground_box(image, 1e4) == Box((0, 0, 0), grid.shape)
    assert foreground_box(Image(torch.ones(grid.shape), grid)) == Box((0, 0, 0), grid.shape)
    with pytest.raises(ValueError, match="margin_mm must be 0 or more, got -1"):
        foreground_box(image, -1)
