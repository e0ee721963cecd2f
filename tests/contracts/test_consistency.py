"""What every loss of transforms there and back must be, and what each of them asks."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from covoxel.losses.base import CONSISTENCY, SIMILARITIES, Consistency, RoundTrip
from covoxel.losses.consistency.dual_consistency import dual_consistency
from covoxel.losses.regularisation.diffusion import diffusion
from covoxel.spatial.field import compose, invert
from covoxel.spatial.smoothing import gaussian
from covoxel.spatial.velocity import exp

FIELDS = ("inverse_consistency", "invertibility", "gradient_icon")
IMAGES = ("cycle", "dual_consistency", "identity")
SYMMETRIC = ("inverse_consistency", "invertibility", "cycle", "identity")


@pytest.fixture(params=sorted(CONSISTENCY))
def loss(request: pytest.FixtureRequest) -> Consistency:
    return CONSISTENCY[request.param]


@pytest.fixture(params=[(24, 20), (14, 16, 12)], ids=["2-D", "3-D"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    chosen: tuple[int, ...] = request.param
    return chosen


def smooth(shape: tuple[int, ...], channels: int, batch: int, seed: int, size: float, sigma: float = 2.5) -> Tensor:
    """Smooth noise with a standard deviation of `size`."""
    noise = torch.randn(batch, channels, *shape, generator=torch.Generator().manual_seed(seed)).double()
    field = gaussian(noise, [sigma] * len(shape))
    return size * field / field.std()


def trip(shape: tuple[int, ...], batch: int = 2, inverse: bool = True) -> RoundTrip:
    """Images, and displacements of about 0.8 voxels that are the inverse of each other, or are not."""
    n = len(shape)
    velocity = smooth(shape, n, batch, 0, 0.8)
    other = -velocity if inverse else smooth(shape, n, batch, 1, 0.8)
    still = torch.zeros_like(velocity)
    return RoundTrip(
        forward_vox=exp(velocity, squarings=6),
        backward_vox=exp(other, squarings=6),
        fixed=0.5 + smooth(shape, 1, batch, 2, 0.2, 1.5),
        moving=0.5 + smooth(shape, 1, batch, 3, 0.2, 1.5),
        fixed_to_itself_vox=still if inverse else exp(velocity, squarings=6),
        moving_to_itself_vox=still if inverse else exp(other, squarings=6),
    )


def mapped(trip: RoundTrip, change: Callable[[Tensor], Tensor]) -> RoundTrip:
    parts = {name: value for name, value in vars(trip).items() if isinstance(value, Tensor)}
    return replace(trip, **{name: change(value) for name, value in parts.items()})


def exchanged(trip: RoundTrip) -> RoundTrip:
    return replace(
        trip,
        forward_vox=trip.backward_vox,
        backward_vox=trip.forward_vox,
        fixed=trip.moving,
        moving=trip.fixed,
        fixed_to_itself_vox=trip.moving_to_itself_vox,
        moving_to_itself_vox=trip.fixed_to_itself_vox,
    )


def test_transforms_that_stay_cost_nothing(loss: Consistency, shape: tuple[int, ...]) -> None:
    still = mapped(trip(shape), lambda x: torch.zeros_like(x) if x.shape[1] > 1 else x)
    value = loss(still)
    expected = torch.zeros(2).double()
    if loss is CONSISTENCY["identity"]:  # windows without contrast are like nothing, themselves not excepted
        assert still.fixed is not None
        assert still.moving is not None
        for image in (still.fixed, still.moving):
            expected = expected + SIMILARITIES["lncc"](image, torch.ones_like(image), radius=4)(image)
        assert (expected < 0.3).all()
    torch.testing.assert_close(value, expected)


def test_inverse_pairs_cost_far_less_than_strangers(loss: Consistency, shape: tuple[int, ...]) -> None:
    pairs, strangers = loss(trip(shape)), loss(trip(shape, inverse=False))
    margin = 0.5
    assert (pairs < margin * strangers).all()


def test_the_gradient_is_that_of_the_value(loss: Consistency) -> None:
    for shape in ((6, 5), (4, 5, 4)):
        start = trip(shape, inverse=False)
        # Off the border and off voxel centres, where interpolation has a corner.
        fields = [0.21 + 0.1 * start.forward_vox, 0.23 + 0.1 * start.backward_vox]
        leaves = [f.clone().requires_grad_() for f in (*fields, *fields)]

        def value(a: Tensor, b: Tensor, c: Tensor, d: Tensor, start: RoundTrip = start) -> Tensor:
            moved = replace(start, forward_vox=a, backward_vox=b, fixed_to_itself_vox=c, moving_to_itself_vox=d)
            return loss(moved)

        assert torch.autograd.gradcheck(value, leaves, eps=1e-7, atol=1e-5, fast_mode=True)


def test_a_sample_costs_the_same_alone_and_in_a_batch(loss: Consistency, shape: tuple[int, ...]) -> None:
    together = trip(shape, inverse=False)
    alone = [loss(mapped(together, lambda x, i=i: x[i, None])) for i in range(2)]
    torch.testing.assert_close(loss(together), torch.cat(alone))


def test_an_empty_mask_leaves_no_gradient(loss: Consistency, shape: tuple[int, ...]) -> None:
    masked = trip(shape, inverse=False)
    none = torch.zeros(2, 1, *shape).double()
    fields = [masked.forward_vox, masked.backward_vox, masked.fixed_to_itself_vox, masked.moving_to_itself_vox]
    leaves = [f.clone().requires_grad_() for f in fields if f is not None]
    forward, backward, fixed_again, moving_again = leaves
    value = loss(
        replace(
            masked,
            forward_vox=forward,
            backward_vox=backward,
            fixed_to_itself_vox=fixed_again,
            moving_to_itself_vox=moving_again,
            fixed_mask=none,
            moving_mask=none,
        )
    )
    gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    assert value.isfinite().all()
    assert all(g is None or not g.any() for g in gradients)


def test_voxels_outside_the_masks_do_not_count(loss: Consistency, shape: tuple[int, ...]) -> None:
    """Vectors stay put at the far end, and what they are there changes nothing for the masked near end."""
    near = torch.zeros(1, 1, *shape).double()
    near[:, :, : shape[0] // 3] = 1
    small = mapped(trip(shape, inverse=False), lambda x: 0.5 * x)
    masked = replace(small, fixed_mask=near, moving_mask=near)
    changed = mapped(small, lambda x: torch.cat([x[:, :, :-2], 0.7 * x[:, :, -2:]], 2))
    torch.testing.assert_close(loss(replace(changed, fixed_mask=near, moving_mask=near)), loss(masked))
    assert (loss(changed) != loss(small)).all()


@pytest.mark.parametrize("name", SYMMETRIC)
def test_fixed_and_moving_may_change_places(name: str, shape: tuple[int, ...]) -> None:
    start = trip(shape, inverse=False)
    torch.testing.assert_close(CONSISTENCY[name](exchanged(start)), CONSISTENCY[name](start))


@pytest.mark.parametrize("name", sorted(CONSISTENCY))
def test_no_number_leaves_the_device(name: str, shape: tuple[int, ...]) -> None:
    there = mapped(trip(shape), lambda x: torch.empty_like(x, device="meta"))
    assert CONSISTENCY[name](there).device.type == "meta"


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_not_given_is_named(name: str) -> None:
    still = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="must be given"):
        CONSISTENCY[name](RoundTrip(still, still))


def test_they_are_documented_with_formula_reference_and_unit(loss: Consistency) -> None:
    text = loss.__doc__ or ""
    assert "math:" in text
    assert "References" in text


@pytest.mark.parametrize("name", FIELDS)
def test_translations_there_and_back_cost_nothing(name: str, shape: tuple[int, ...]) -> None:
    forward = torch.full((1, len(shape), *shape), 1.3)
    trip = RoundTrip(forward, -forward)
    assert float(CONSISTENCY[name](trip)) == pytest.approx(0, abs=1e-10)


def test_gradient_icon_lets_a_round_trip_move_and_the_others_do_not(shape: tuple[int, ...]) -> None:
    step = torch.full((1, len(shape), *shape), 1.0)
    trip = RoundTrip(step, step)
    length = 4.0 * len(shape)
    assert float(CONSISTENCY["gradient_icon"](trip)) == pytest.approx(0, abs=1e-10)
    assert float(CONSISTENCY["invertibility"](trip)) == pytest.approx(2 * length)
    assert float(CONSISTENCY["inverse_consistency"](trip)) == pytest.approx(2 * length)
    spaced = replace(trip, spacing_mm=[2.0] * len(shape))
    assert float(CONSISTENCY["invertibility"](spaced)) == pytest.approx(8 * length)


def test_the_values_of_the_formulas(shape: tuple[int, ...]) -> None:
    start = trip(shape, inverse=False)
    u, v = start.forward_vox, start.backward_vox

    def square(x: Tensor) -> Tensor:
        return (x**2).sum(1).flatten(1).mean(1)

    left = compose(v, u)
    torch.testing.assert_close(CONSISTENCY["invertibility"](start), square(left) + square(compose(u, v)))
    torch.testing.assert_close(CONSISTENCY["gradient_icon"](start), diffusion(left))
    exact = square(u - invert(v)) + square(v - invert(u))
    torch.testing.assert_close(CONSISTENCY["inverse_consistency"](start), exact, rtol=0.4, atol=0)


def test_the_second_displacements_are_used_where_given(shape: tuple[int, ...]) -> None:
    start = trip(shape)
    still = torch.zeros_like(start.forward_vox)
    for name in ("second_forward_vox", "second_backward_vox"):
        moved = replace(start, **{name: still})
        assert (CONSISTENCY["cycle"](moved) > 1.2 * CONSISTENCY["cycle"](start)).all()


def test_dual_consistency_compares_by_any_similarity(shape: tuple[int, ...]) -> None:
    pairs, strangers = trip(shape), trip(shape, inverse=False)
    assert (dual_consistency(pairs, similarity="ncc") < dual_consistency(strangers, similarity="ncc")).all()
