"""Figures: the right slices, the right way round, honest about what they show, small."""

import io

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from covoxel.report import case_figures
from covoxel.report.canvas import panels_of, round_length
from covoxel.report.figures import _determinant, window_of
from covoxel.report.palette import FOLDED, label_colour, rgb
from covoxel.report.planes import Frame, Plane, choose_planes
from covoxel.spatial import Grid, Image, Transform

SHAPE = (30, 36, 24)


def world(grid: Grid) -> np.ndarray:
    """World coordinates of every voxel, `(*shape, n)`."""
    return grid.to_ras(np.stack(np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij"), -1))


def grid_of(axes: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...] = (1, 1, 2)) -> Grid:
    n = len(axes)
    matrix = np.eye(n + 1)
    matrix[:n, :n] = 0
    for voxel_axis, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[axis, voxel_axis] = sign * spacing[voxel_axis]
    return Grid(SHAPE[:n], matrix)


def ball(grid: Grid, centre: tuple[float, ...], radius_mm: float) -> torch.Tensor:
    return torch.from_numpy(np.linalg.norm(world(grid) - np.asarray(centre), axis=-1) < radius_mm)


def pixels(figure: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(figure)).convert("RGB"), dtype=np.float32) / 255


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid.from_spacing(SHAPE, (1, 1, 2))


def test_a_case_has_all_five_figures_small_and_in_order(grid: Grid) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE)).float()
    fixed = Image(noise, grid)
    figures = case_figures(
        fixed,
        Image(ball(grid, (0, 0, 0), 8).long(), grid),
        confidence=Image(noise.sigmoid(), grid),
        moved=fixed,
        transform=Transform(grid, np.eye(4), torch.rand(3, *SHAPE)),
    )
    assert list(figures) == ["overlay", "checkerboard", "confidence", "grid", "jacobian"]
    assert all(len(figure) <= 60_000 for figure in figures.values())
    assert all(Picture.open(io.BytesIO(figure)).format == "WEBP" for figure in figures.values())


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_the_patients_right_is_on_the_left_however_the_file_is_stored(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    stored = grid_of(axes, signs)
    frame = Frame.of(stored)
    ras = np.stack([frame.view(world(stored)[..., c]) for c in range(3)])
    planes = choose_planes(ras[0], np.ones(ras[0].shape, dtype=int), frame.spacing_mm)
    sagittal, coronal, axial = planes
    assert (np.diff(axial.cut(ras[0]), axis=1) < 0).all(), "columns run from right to left"
    assert (np.diff(axial.cut(ras[1]), axis=0) < 0).all(), "rows run from anterior to posterior"
    assert (np.diff(coronal.cut(ras[0]), axis=1) < 0).all()
    assert (np.diff(coronal.cut(ras[2]), axis=0) < 0).all(), "rows run from superior to inferior"
    assert (np.diff(sagittal.cut(ras[1]), axis=1) < 0).all(), "columns run from anterior to posterior"
    assert (np.diff(sagittal.cut(ras[2]), axis=0) < 0).all()
    np.testing.assert_allclose(np.moveaxis(world(frame.grid(stored)), -1, 0), ras)


def test_one_head_stored_in_two_orders_gives_the_same_picture() -> None:
    drawn = []
    for signs in ((1, 1, 1), (-1, -1, 1)):
        stored = grid_of((0, 1, 2), signs)
        middle = stored.centre_ras
        shifted = stored.ras_from_voxel.copy()
        shifted[:3, 3] -= middle
        stored = Grid(stored.shape, shifted)
        fixed = Image(torch.from_numpy(world(stored) @ [1.0, 2.0, 3.0]).float(), stored)
        drawn.append(case_figures(fixed, Image(ball(stored, (5, -6, 4), 5).long(), stored))["overlay"])
    assert drawn[0] == drawn[1]


def test_slices_show_every_label_even_where_the_centre_of_both_lies_in_neither(grid: Grid) -> None:
    labels = (ball(grid, (9, 0, 0), 4) + 2 * ball(grid, (-9, 0, 0), 4).int()).numpy()
    planes = choose_planes(labels, labels, (1, 1, 2))
    assert all(plane.cut(labels).any() for plane in planes)
    assert set(np.unique(planes[2].cut(labels))) == {0, 1, 2}


def test_a_voxel_is_as_tall_as_it_is_in_the_patient(grid: Grid) -> None:
    labels = np.ones(SHAPE, dtype=int)
    for panel in panels_of(choose_planes(labels, labels, (1.0, 1.0, 5.0))):
        width, height = panel.plane.size_mm
        assert panel.width / panel.height == pytest.approx(width / height, rel=0.03)


def test_each_label_is_tinted_in_its_own_colour(grid: Grid) -> None:
    labels = ball(grid, (0, 0, 0), 9).long() * 3
    picture = pixels(case_figures(Image(torch.zeros(SHAPE), grid), Image(labels, grid))["overlay"])
    saturation = picture.max(-1) - picture.min(-1)
    hue = picture[saturation > 0.4].mean(0)
    wanted = rgb(label_colour(3))
    assert np.corrcoef(hue, wanted)[0, 1] > 0.95


def test_agreement_shows_no_squares_and_disagreement_does(grid: Grid) -> None:
    fixed = Image(torch.from_numpy(world(grid)[..., 1]).float(), grid)
    turned = Image(-fixed.data, grid)
    same, other = (pixels(case_figures(fixed, moved=moved)["checkerboard"])[30:150, :, 0] for moved in (fixed, turned))
    edges = [int((np.abs(np.diff(picture, axis=1)) > 0.12).sum()) for picture in (same, other)]
    assert edges[1] > 3 * edges[0] + 100


def test_doubt_is_bright_and_certainty_leaves_the_case_alone(grid: Grid) -> None:
    fixed = Image(torch.from_numpy(world(grid)[..., 1]).float(), grid)
    sure, unsure = (
        pixels(case_figures(fixed, confidence=Image(torch.full(SHAPE, c), grid))["confidence"])[30:300]
        for c in (1.0, 0.5)
    )
    assert np.abs(sure[..., 0] - sure[..., 2]).mean() < 0.05
    assert np.abs(unsure[..., 0] - unsure[..., 2]).mean() > 0.25


def scaling(grid: Grid, factor: float) -> Transform:
    """The transform that scales about the origin, as a displacement."""
    u = (factor - 1) * np.moveaxis(world(grid), -1, 0)
    return Transform(grid, np.eye(grid.ndim + 1), torch.from_numpy(u).float())


@pytest.mark.parametrize(("factor", "redder"), [(1.2, True), (0.8, False)])
def test_a_larger_moving_image_is_orange_and_a_smaller_one_blue(grid: Grid, factor: float, redder: bool) -> None:
    picture = pixels(case_figures(Image(torch.rand(SHAPE), grid), transform=scaling(grid, factor))["jacobian"])
    middle = picture[100:240, picture.shape[1] // 2 - 30 : picture.shape[1] // 2 + 30]
    assert (middle[..., 0].mean() > middle[..., 2].mean() + 0.1) == redder


def test_a_fold_is_drawn_in_the_colour_of_folds(grid: Grid) -> None:
    u = -1.5 * np.moveaxis(world(grid), -1, 0) * np.asarray([1, 0, 0]).reshape(3, 1, 1, 1)
    transform = Transform(grid, np.eye(4), torch.from_numpy(u).float())
    picture = pixels(case_figures(Image(torch.rand(SHAPE), grid), transform=transform)["jacobian"])
    middle = picture[100:240, picture.shape[1] // 2 - 30 : picture.shape[1] // 2 + 30]
    assert np.abs(np.median(middle, axis=(0, 1)) - FOLDED).max() < 0.1


def test_the_determinant_of_a_scaling_is_its_factor_cubed() -> None:
    where = np.stack(np.meshgrid(*[np.arange(7.0)] * 3, indexing="ij"))
    plane = Plane("Axial", 2, 3, (slice(0, 7),) * 3, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(_determinant(plane, 0.25 * where), 1.25**3)


def test_a_transform_on_another_oblique_grid_is_drawn_where_it_is(grid: Grid) -> None:
    """The scaling is the same field in the world, so the picture hardly depends on the grid it is stored on."""
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    wide = Grid.from_spacing((70, 70, 60), (1.1, 1.2, 1.3))
    other = Grid(wide.shape, turn @ wide.ras_from_voxel)
    fixed = Image(torch.rand(SHAPE), grid)
    for key in ("grid", "jacobian"):
        ours, theirs = (pixels(case_figures(fixed, transform=scaling(g, 1.2))[key]) for g in (grid, other))
        inside = (slice(60, 280), slice(60, -60))
        assert np.abs(ours[inside] - theirs[inside]).mean() < 0.02


def test_lines_of_the_deformation_grid_lie_a_known_distance_apart(grid: Grid) -> None:
    fixed = Image(torch.zeros(SHAPE), grid)
    still, doubled = (
        (pixels(case_figures(fixed, transform=scaling(grid, f))["grid"])[40:300].max(-1) > 0.35).mean()
        for f in (1.0, 2.0)
    )
    assert doubled > 1.5 * still


def test_two_dimensional_images_have_one_panel() -> None:
    grid = Grid.from_spacing((64, 48), (1, 1.5))
    fixed = Image(torch.from_numpy(world(grid)[..., 0]).float(), grid)
    figures = case_figures(
        fixed,
        Image(ball(grid, (0, 0), 12).long(), grid),
        confidence=Image(torch.ones(grid.shape), grid),
        moved=fixed,
        transform=scaling(grid, 1.1),
    )
    assert len(figures) == 5
    planes = choose_planes(fixed.data.numpy(), None, (1, 1.5))
    assert [plane.name for plane in planes] == ["Axial"]
    assert (np.diff(planes[0].cut(fixed.data.numpy()), axis=1) < 0).all()


@pytest.mark.parametrize("value", [0.0, 7.0, float("nan")])
def test_an_image_without_content_is_drawn_without_error(grid: Grid, value: float) -> None:
    nothing = Image(torch.full(SHAPE, value), grid)
    empty = Image(torch.zeros(SHAPE, dtype=torch.int64), grid)
    assert set(case_figures(nothing, empty, confidence=nothing, moved=nothing)) == {
        "overlay",
        "checkerboard",
        "confidence",
    }


def test_a_single_slice_volume_is_drawn() -> None:
    grid = Grid.from_spacing((40, 40, 1), (1, 1, 5))
    fixed = Image(torch.rand(grid.shape), grid)
    assert len(case_figures(fixed, moved=fixed, transform=scaling(grid, 1.1))) == 3


def test_an_image_on_another_grid_is_refused_by_name(grid: Grid) -> None:
    other = Grid.from_spacing((10, 10, 10))
    with pytest.raises(ValueError, match="confidence must lie on the grid of fixed"):
        case_figures(Image(torch.rand(SHAPE), grid), confidence=Image(torch.rand(10, 10, 10), other))


def test_one_wild_voxel_does_not_darken_the_picture() -> None:
    image = np.random.default_rng(0).uniform(100, 200, (40, 40, 40))
    image[0, 0, 0] = 1e9
    low, high = window_of(image)
    assert low < 110
    assert 190 < high < 210


@pytest.mark.parametrize(("most", "length"), [(9.9, 5), (10, 10), (23, 20), (0.9, 0.5), (130, 100)])
def test_a_scale_bar_has_a_round_length(most: float, length: float) -> None:
    assert round_length(most) == pytest.approx(length)
