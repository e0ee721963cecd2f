"""The box of the content: borders of one value and of noise, on all sides or some, and images that have none."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from covoxel.preprocessing import Box, content_box, cropped_to_content, foreground, normalise, preprocess
from covoxel.spatial import Grid, Image

Array = NDArray[np.float64]
SIDES = {3: (30, 36, 27), 2: (160, 190)}
SOME_SIDES = {3: ((0, 12), (5, 0), (0, 0)), 2: ((0, 25), (0, 0))}


def crop_of_anatomy(ndim: int = 3) -> Array:
    """Structure up to every face, 20 to 220."""
    data = gaussian_filter(np.random.default_rng(1).normal(size=SIDES[ndim]), 2.0)
    return np.asarray((data - data.min()) / np.ptp(data) * 200 + 20)


def image(data: Array) -> Image:
    return Image(torch.from_numpy(data), Grid.from_spacing(data.shape, 1.0))


def around(data: Array, pads: tuple[tuple[int, int], ...], fill: Callable[[tuple[int, ...]], Array]) -> Array:
    """The data in a larger matrix."""
    whole = fill(tuple(a + side + b for (a, b), side in zip(pads, data.shape, strict=True)))
    whole[tuple(slice(a, a + side) for (a, _), side in zip(pads, data.shape, strict=True))] = data
    return whole


def noise(seed: int, kind: str) -> Callable[[tuple[int, ...]], Array]:
    draw = np.random.default_rng(seed)
    own = crop_of_anatomy()
    return {
        "as the image": lambda shape: draw.normal(own.mean(), own.std(), shape),
        "loud": lambda shape: draw.normal(0, 20 * own.std(), shape),
        "faint": lambda shape: draw.normal(own.mean(), own.std() / 20, shape),
        "uniform": lambda shape: draw.uniform(own.min(), own.max(), shape),
        "air of CT": lambda shape: draw.normal(-1000, 12, shape),
        "drawn from the image": lambda shape: draw.choice(own.ravel(), shape),
    }[kind]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("value", [0.0, -1024.0, -3000.0, 120.0, 1e6])
def test_a_border_of_one_value_is_cut_on_the_voxel(ndim: int, value: float) -> None:
    data = crop_of_anatomy(ndim)
    for pads in (((10, 10),) * ndim, ((1, 40),) * ndim, SOME_SIDES[ndim]):
        whole = around(data, pads, lambda shape: np.full(shape, value))
        assert content_box(image(whole)) == Box(tuple(a for a, _ in pads), data.shape)


@pytest.mark.parametrize("kind", ["as the image", "loud", "faint", "uniform", "air of CT", "drawn from the image"])
@pytest.mark.parametrize("pads", [((10, 10),) * 3, ((6, 40),) * 3, SOME_SIDES[3]])
def test_a_border_of_noise_is_cut_on_the_voxel(kind: str, pads: tuple[tuple[int, int], ...]) -> None:
    data = crop_of_anatomy()
    assert content_box(image(around(data, pads, noise(3, kind)))) == Box(tuple(a for a, _ in pads), data.shape)


def test_noise_around_a_slice_and_noise_within_a_constant_are_cut_too() -> None:
    data = crop_of_anatomy(2)
    found = content_box(image(around(data, ((30, 20), (25, 40)), noise(5, "as the image"))))
    assert np.abs(np.subtract(found.start, (30, 25))).max() <= 1
    assert np.abs(np.subtract(found.shape, data.shape)).max() <= 1
    both = around(crop_of_anatomy(), ((8, 9),) * 3, noise(6, "uniform"))
    both = around(both, ((5, 4),) * 3, lambda shape: np.full(shape, -3000.0))
    assert content_box(image(both)) == Box((13,) * 3, SIDES[3])


@pytest.mark.parametrize("value", [0.0, -1000.0])
def test_an_object_in_air_keeps_a_quarter_of_its_longest_side_around_it(value: float) -> None:
    index = np.stack(np.meshgrid(*[np.arange(80) - 40.0] * 3, indexing="ij"))
    ball = np.sqrt((index**2).sum(0)) <= 12
    texture = 100 + 20 * gaussian_filter(np.random.default_rng(2).normal(size=ball.shape), 1.5)
    for data in (np.where(ball, texture, value), np.where(np.abs(index).max(0) <= 12, 50.0, value)):
        assert content_box(image(data)) == Box((21,) * 3, (39,) * 3)
    tight = np.where(ball, texture, value)[22:59, 22:59, 22:59]
    assert content_box(image(tight)) == Box((0,) * 3, tight.shape)


def test_a_head_in_the_noise_of_air_is_not_cut_into() -> None:
    index = np.stack(np.meshgrid(*[np.arange(90) - 45.0] * 3, indexing="ij"))
    ball = np.sqrt((index**2).sum(0)) <= 16
    draw = np.random.default_rng(4)
    texture = 100 + 20 * gaussian_filter(draw.normal(size=ball.shape), 1.5)
    data = np.where(ball, texture, draw.rayleigh(5, ball.shape))
    box = content_box(image(data))
    assert max(box.start) <= 45 - 16 - 6
    assert min(a + b for a, b in zip(box.start, box.shape, strict=True)) >= 45 + 16 + 6
    assert max(box.shape) < 60


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_image_without_a_border_is_left_as_it_is(ndim: int) -> None:
    draw = np.random.default_rng(7)
    anatomy = crop_of_anatomy(ndim)
    for data in (anatomy, draw.normal(size=SIDES[ndim]), np.full(SIDES[ndim], 3.0), anatomy.round(-2)):
        whole = image(np.asarray(data, dtype=np.float64))
        assert content_box(whole) == Box((0,) * ndim, SIDES[ndim])
        assert cropped_to_content(whole) is whole


@pytest.mark.parametrize("kind", ["as the image", "loud"])
def test_intensities_are_those_of_the_content_alone(kind: str) -> None:
    data = crop_of_anatomy()
    pads = ((10, 14),) * 3
    inside = tuple(slice(10, 10 + side) for side in data.shape)
    for fill in (noise(8, kind), lambda shape: np.full(shape, -3000.0), lambda shape: np.zeros(shape)):
        whole = image(around(data, pads, fill))
        assert torch.equal(normalise(whole)[inside], normalise(image(data)))
        assert preprocess(whole).grid.shape == whole.grid.shape
        assert int(foreground(whole).sum()) == int(foreground(image(data)).sum())


def test_air_of_one_value_within_noise_stays_with_its_object() -> None:
    index = np.stack(np.meshgrid(*[np.arange(50) - 25.0] * 3, indexing="ij"))
    texture = 100 + 20 * gaussian_filter(np.random.default_rng(9).normal(size=(50, 50, 50)), 1.5)
    brain = np.where(np.sqrt((index**2).sum(0)) <= 18, texture, 0.0)
    whole = around(brain, ((12, 20),) * 3, noise(10, "as the image"))
    assert content_box(image(whole)) == Box((12,) * 3, brain.shape)


def test_a_box_is_remembered_by_values_shape_and_spacing() -> None:
    ball = (np.indices((24, 22, 20)) - np.array([9, 12, 10])[:, None, None, None]).astype(float)
    data = torch.from_numpy(np.maximum(0, 16 - (ball**2).sum(0)))
    fine, coarse = (Grid(tuple(data.shape), np.diag([*spacing, 1.0])) for spacing in ([1, 1, 1], [1, 1, 3]))
    first = content_box(Image(data, fine))
    assert content_box(Image(data.clone(), fine)) == first
    assert content_box(Image(data, coarse)) != first
    assert content_box(Image(data.flip(0), fine)) != first
    turned = Image(data.permute(2, 1, 0), Grid((20, 22, 24), np.eye(4)))
    assert content_box(turned).shape == first.shape[::-1]
