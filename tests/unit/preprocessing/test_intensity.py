"""Normalisation: invariant to scanners' units, robust to outliers, and honest about images that say nothing."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from covoxel.preprocessing import foreground, normalise
from covoxel.spatial import Grid, Image


def image_of(data: torch.Tensor) -> Image:
    return Image(data, Grid.from_spacing(tuple(data.shape)))


@pytest.mark.parametrize(("slope", "offset"), [(3.0, 0.0), (1e6, -4e5), (2e-5, 1.0), (0.5, -1024.0)])
@pytest.mark.parametrize("clip", ["hard", "soft"])
@pytest.mark.parametrize("shape", [(40, 30), (16, 15, 14)])
def test_slope_and_offset_of_the_scanner_do_not_matter(
    slope: float, offset: float, clip: str, shape: tuple[int, ...]
) -> None:
    data = torch.rand(shape, dtype=torch.float64) ** 2
    data[:5] = 0
    first = normalise(image_of(data), clip=clip)
    assert_close(normalise(image_of(slope * data + offset), clip=clip), first, atol=1e-5, rtol=0)


def test_percentiles_become_0_and_1() -> None:
    data = torch.arange(10001, dtype=torch.float64)[torch.randperm(10001)].view(73, 137)
    result = normalise(image_of(data))
    assert_close(result, ((data - 100) / 9800).clamp(0, 1).float(), atol=1e-6, rtol=0)
    assert result.dtype == torch.float32


def test_soft_clipping_keeps_the_order_and_the_middle() -> None:
    data = torch.linspace(-5, 5, 4001, dtype=torch.float64).view(1, -1)
    image = image_of(data)
    soft, hard = normalise(image, percentiles=(10, 90), clip="soft"), normalise(image, percentiles=(10, 90))
    middle = (hard > 0) & (hard < 1)
    assert torch.equal(soft[middle], hard[middle])
    assert (soft.diff() > 0).all()
    assert soft.min() > -0.25
    assert soft.max() < 1.25


def test_a_hundred_wild_voxels_move_nothing_much() -> None:
    data = torch.rand(30, 30, 30)
    wild = data.clone()
    wild.view(-1)[torch.randperm(27000)[:50]] = 1e7
    wild.view(-1)[torch.randperm(27000)[:50]] = -1e7
    tame = wild.abs() < 1e6
    assert (normalise(image_of(wild)) - normalise(image_of(data)))[tame].abs().max() < 0.01


@pytest.mark.parametrize("background", [0.0, -1024.0])
def test_air_set_to_a_constant_does_not_count(background: float) -> None:
    data = torch.full((30, 30, 30), background)
    data[10:20, 10:20, 10:20] = 100 + 50 * torch.rand(10, 10, 10)
    image = image_of(data)
    assert torch.equal(foreground(image), data > 50)
    inside = normalise(image)[data > 50]
    assert_close(inside, normalise(image_of(data[10:20, 10:20, 10:20].clone())).reshape(-1), atol=1e-5, rtol=0)


def test_background_within_the_range_of_values_is_found_at_the_faces() -> None:
    data = torch.zeros(20, 20, 20)
    data[5:15, 5:15, 5:15] = torch.randn(10, 10, 10) + 0.5
    assert torch.equal(foreground(image_of(data)), data != 0)


def test_an_image_without_background_is_all_foreground() -> None:
    assert foreground(image_of(torch.randn(10, 10))).all()
    assert foreground(image_of(torch.full((10, 10), 3.0))).all()


def test_images_that_say_little_are_still_numbers() -> None:
    assert torch.equal(normalise(image_of(torch.full((8, 8), 7.0))), torch.zeros(8, 8))
    spot = torch.rand(200, 200) * 0 + 1
    spot[3, 4] = 9
    spot[5, 6] = 5
    result = normalise(image_of(spot), torch.ones(200, 200, dtype=torch.bool))
    assert result[3, 4] == 1
    assert result[5, 6] == 0.5
    assert result[0, 0] == 0


def test_a_mask_chooses_the_voxels_of_the_percentiles() -> None:
    data = torch.rand(20, 20)
    mask = data < 0.5
    expected = np.percentile(data[mask].double().numpy(), (1, 99))
    result = normalise(image_of(data), mask)
    assert_close(result, ((data - expected[0]) / (expected[1] - expected[0])).clamp(0, 1).float(), atol=1e-5, rtol=0)


def test_what_is_no_number_is_refused() -> None:
    data = torch.rand(5, 5)
    data[2, 2] = torch.nan
    with pytest.raises(ValueError, match="finite, got 1 voxels"):
        normalise(image_of(data))
    with pytest.raises(ValueError, match="not empty"):
        normalise(image_of(torch.rand(5, 5)), torch.zeros(5, 5, dtype=torch.bool))


def test_integers_are_read_as_numbers() -> None:
    data = torch.randint(-300, 3000, (12, 13), dtype=torch.int16)
    assert torch.equal(normalise(image_of(data)), normalise(image_of(data.double())))
