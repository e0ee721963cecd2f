"""The search before a descent: what lies far away is found, whatever the contrast, and nothing folds."""

import numpy as np
import pytest
import torch
from torch import Tensor

from covoxel.registration import register
from covoxel.registration.base import MovingBatch
from covoxel.registration.search import searched_velocity
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.field import jacobian_determinant
from covoxel.spatial.smoothing import gaussian

SHAPES = [(48, 40, 36), (64, 56)]


def texture(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Smooth blobs, 0 to 1."""
    noise = torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)
    smooth = gaussian(noise[None, None], [2.5] * len(shape))[0, 0]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def image(data: Tensor, spacing: float = 1.0) -> Image:
    return Image(data, Grid(tuple(data.shape), np.diag([*[spacing] * data.ndim, 1.0])))


def found(fixed: Image, *moving: Image, reach: tuple[int, ...] = (3, 2)) -> Tensor:
    """Displacements, `(batch, n, *shape)` voxels."""
    start = [Transform.identity(fixed.grid) for _ in moving]
    velocity = searched_velocity(fixed, MovingBatch.of(moving, "cpu"), start, reach)
    assert velocity is not None
    return velocity.displacement_vox(fixed.grid)


def inner(field: Tensor) -> Tensor:
    """What is not near the border, where a shift brings in what the image does not show."""
    return field[:, :, *[slice(12, -12)] * (field.ndim - 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [-5, 4])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_shift_is_found_whatever_the_contrast(shape: tuple[int, ...], shift: int, inverted: bool) -> None:
    data = texture(shape)
    moving = data.roll(shift, 0)
    field = inner(found(image(data), image(1 - moving if inverted else moving)))
    assert (field[:, 0] - shift).abs().mean() < 0.7
    assert field[:, 1:].abs().mean() < 0.5


@pytest.mark.parametrize("spacing", [0.1, 3.0])
def test_the_size_of_a_voxel_does_not_matter(spacing: float) -> None:
    data = texture(SHAPES[0])
    one, other = (found(image(data, s), image(data.roll(4, 1), s)) for s in (1.0, spacing))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    fixed, first, second = (image(texture(SHAPES[0], seed)) for seed in (0, 1, 2))
    both = found(fixed, first, second)
    torch.testing.assert_close(both[:1], found(fixed, first))
    torch.testing.assert_close(both[1:], found(fixed, second))


@pytest.mark.parametrize("seed", [1, 2])
def test_images_that_are_nothing_like_each_other_do_not_fold(seed: int) -> None:
    field = found(image(texture(SHAPES[0])), image(texture(SHAPES[0], seed)))
    assert float((jacobian_determinant(field) <= 0).float().mean()) < 5e-3


@pytest.mark.parametrize("shape", [(30, 60, 60), (20, 20), (1, 64, 64)])
def test_an_image_of_few_voxels_is_left_to_the_descent(shape: tuple[int, ...]) -> None:
    fixed = image(texture(shape))
    start = [Transform.identity(fixed.grid)]
    assert searched_velocity(fixed, MovingBatch.of([fixed], "cpu"), start, (3, 2)) is None
    plain, searched = (
        register("svf", fixed, [image(texture(shape, 1))], alignment="none", iterations=(3, 2), reach=reach)[0]
        for reach in ((), (3, 2))
    )
    assert (plain.displacement_mm is None) == (searched.displacement_mm is None)
    if plain.displacement_mm is not None and searched.displacement_mm is not None:
        torch.testing.assert_close(plain.displacement_mm, searched.displacement_mm)


@pytest.mark.parametrize("axis", [0, 2])
def test_a_descent_that_begins_with_a_search_ends_nearer_to_a_far_warp(axis: int) -> None:
    data = texture((64, 64, 64), 3)
    moving = image(data.roll(9, axis))
    errors = {}
    for reach in ((), (3, 2)):
        (transform,) = register("svf", image(data), [moving], alignment="none", iterations=(20, 12), reach=reach)
        assert transform.displacement_mm is not None
        error = inner(transform.displacement_mm[None])[0].clone()
        error[axis] -= 9
        errors[reach] = float(error.norm(dim=0).mean())
    assert errors[3, 2] < 0.5 * errors[()]
