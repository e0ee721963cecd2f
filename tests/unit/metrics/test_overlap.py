"""Overlap and volume against geometry and against counting by hand."""

import math

import pytest
import torch
from torch import Tensor

from covoxel.metrics import assd_mm, dice, hd95_mm, jaccard, volume_difference_percent, volumes_mm3
from covoxel.spatial import Grid, Image


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float, spacing: tuple[float, ...]) -> Tensor:
    axes = [torch.arange(side) * step - c for side, step, c in zip(shape, spacing, centre, strict=True)]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    return (squares <= radius**2).long()


def lens_share(distance: float, radius: float, ndim: int) -> float:
    """Intersection of two equal discs or balls over the volume of one."""
    t = distance / (2 * radius)
    if ndim == 2:
        return 2 / math.pi * (math.acos(t) - t * math.sqrt(1 - t * t))
    return 1 - 1.5 * t + 0.5 * t**3


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("distance", [0.0, 7.0, 19.0])
def test_dice_of_two_balls_is_their_lens(ndim: int, distance: float) -> None:
    spacing, shape = (0.5, 0.4, 0.6)[:ndim], (160, 130, 90)[:ndim]
    centre = (30.1, 26.2, 26.7)[:ndim]
    a = ball(shape, centre, 20, spacing)
    b = ball(shape, (centre[0] + distance, *centre[1:]), 20, spacing)
    expected = lens_share(distance, 20, ndim)
    assert dice(a, b, [1])[1] == pytest.approx(expected, abs=0.004)
    assert jaccard(a, b, [1])[1] == pytest.approx(expected / (2 - expected), abs=0.004)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_volume_of_a_ball_is_that_of_geometry(ndim: int, grid: Grid) -> None:
    spacing = tuple(grid.spacing_mm[:ndim] / 5)
    shape = tuple(int(26 / s) for s in spacing)
    own = Grid.from_spacing(shape, spacing)
    labels = Image(3 * ball(shape, (12.5,) * ndim, 10, spacing), own)
    expected = math.pi * 100 if ndim == 2 else 4 / 3 * math.pi * 1000
    assert volumes_mm3(labels, [0, 3, 4]) == {3: pytest.approx(expected, rel=0.005), 4: 0.0}


def test_the_volume_of_a_box_does_not_depend_on_orientation(grid: Grid) -> None:
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    labels[2:7, 3:5, 4:8] = 2
    assert volumes_mm3(Image(labels, grid), [2])[2] == pytest.approx(5 * 2 * 4 * 1.0 * 1.5 * 2.5, rel=1e-9)


def test_counts_by_hand_with_any_values() -> None:
    a = torch.tensor([0, 5, 5, 5, -2, 900, 900])
    b = torch.tensor([5, 5, 5, 0, -2, 900, 3])
    assert dice(a, b, [900, 5, -2]) == {900: pytest.approx(2 / 3), 5: pytest.approx(4 / 6), -2: 1.0}
    assert volume_difference_percent(a, b, [900])[900] == pytest.approx(100 * 2 / 3)


def test_background_alone_gives_nothing() -> None:
    assert dice(torch.zeros(3, 3, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64), [0]) == {}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_box_moved_along_an_axis_is_that_far_away_in_millimetres(axis: int) -> None:
    spacing = (1.0, 1.5, 2.5)
    labels = torch.zeros(24, 24, 24, dtype=torch.int64)
    labels[4:14, 4:14, 4:14] = 1
    moved = labels.roll(3, axis)
    assert hd95_mm(moved, labels, [1], spacing_mm=spacing)[1] == pytest.approx(3 * spacing[axis])
    assert 0 < assd_mm(moved, labels, [1], spacing_mm=spacing)[1] < 3 * spacing[axis]


@pytest.mark.parametrize("ndim", [2, 3])
def test_concentric_balls_are_the_difference_of_radii_apart(ndim: int) -> None:
    shape, centre, spacing = (100, 84, 70)[:ndim], (20.0, 21.0, 21.0)[:ndim], (0.4, 0.5, 0.6)[:ndim]
    small, large = (ball(shape, centre, radius, spacing) for radius in (12, 17))
    assert assd_mm(small, large, [1], spacing_mm=spacing)[1] == pytest.approx(5, abs=0.4)
    assert hd95_mm(small, large, [1], spacing_mm=spacing)[1] == pytest.approx(5, abs=0.6)


def test_a_structure_at_the_border_of_the_image_has_a_surface_there() -> None:
    whole = torch.ones(6, 6, dtype=torch.int64)
    part = whole.clone()
    part[0] = 0
    assert hd95_mm(part, whole, [1], spacing_mm=2.0)[1] == pytest.approx(2.0)


@pytest.mark.parametrize("spacing_mm", [0.0, (1.0, -1.0), float("nan")])
def test_a_spacing_that_is_none_is_refused(spacing_mm: float) -> None:
    labels = torch.ones(4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        hd95_mm(labels, labels, [1], spacing_mm=spacing_mm)
