"""What every similarity measure must be, and the analytic gradient of lncc against that of its formula."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from covoxel.losses.base import SIMILARITIES, MovedLoss, Similarity
from covoxel.losses.box import box_sum
from covoxel.losses.similarity.lncc import lncc
from covoxel.spatial.smoothing import gaussian

RADIUS = 2


@pytest.fixture(params=sorted(SIMILARITIES))
def similarity(request: pytest.FixtureRequest) -> Similarity:
    return SIMILARITIES[request.param]


@pytest.fixture(params=[(40, 36), (20, 18, 16)], ids=["2-D", "3-D"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    chosen: tuple[int, ...] = request.param
    return chosen


def texture(shape: tuple[int, ...], batch: int = 1, seed: int = 0) -> Tensor:
    """Smooth random intensities from 0 to 1, `(batch, 1, *shape)`."""
    noise = torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = gaussian(noise, [1.5] * len(shape))
    smooth = smooth - smooth.amin(tuple(range(1, smooth.ndim)), keepdim=True)
    return smooth / smooth.amax(tuple(range(1, smooth.ndim)), keepdim=True)


def ball(shape: tuple[int, ...]) -> Tensor:
    """Mask of the middle, `(1, 1, *shape)`."""
    mask = torch.zeros(1, 1, *shape)
    mask[(slice(None), slice(None), *[slice(side // 4, -side // 4) for side in shape])] = 1
    return mask


def with_gradient(loss: MovedLoss, moved: Tensor) -> tuple[Tensor, Tensor]:
    moved = moved.clone().requires_grad_()
    value = loss(moved)
    (gradient,) = torch.autograd.grad(value.sum(), moved)
    return value.detach(), gradient


def test_a_match_is_better_than_any_mismatch_and_a_small_one_better_than_a_large(
    similarity: Similarity, shape: tuple[int, ...]
) -> None:
    fixed = texture(shape)
    shifted = [torch.roll(fixed, shift, 2) for shift in (0, 1, 2, 3)]
    loss = similarity(fixed, torch.ones_like(fixed).expand(5, *fixed.shape[1:]), radius=RADIUS)
    values = loss(torch.cat([*shifted, texture(shape, seed=1)]))
    assert values.shape == (5,)
    match, one, two, three, stranger = values.tolist()
    assert match < one < two < three
    assert match < stranger
    assert two < stranger


def test_descent_along_the_gradient_makes_images_more_alike(similarity: Similarity, shape: tuple[int, ...]) -> None:
    fixed, moved = texture(shape), texture(shape, seed=1) * 0.8 + 0.1
    loss = similarity(fixed, torch.ones_like(fixed), radius=RADIUS)
    before, gradient = with_gradient(loss, moved)
    assert gradient.abs().max() > 0
    after = loss(moved - 0.01 * gradient / gradient.abs().max())
    assert after < before


def test_the_gradient_is_that_of_the_value(similarity: Similarity) -> None:
    for shape in ((7, 6), (5, 4, 6)):
        fixed, moved = torch.rand(1, 1, *shape).double(), torch.rand(2, 1, *shape).double()
        mask = torch.ones_like(moved)
        mask[1, :, :2] = 0
        loss = similarity(fixed, mask, radius=1)
        assert torch.autograd.gradcheck(loss, (moved.requires_grad_(),), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_constant_images_have_a_finite_gradient(similarity: Similarity, shape: tuple[int, ...], level: float) -> None:
    constant, other = torch.full((1, 1, *shape), level), texture(shape)
    mask = torch.ones(1, 1, *shape)
    for fixed, moved in ((constant, other), (other, constant), (constant, constant)):
        value, gradient = with_gradient(similarity(fixed, mask, radius=RADIUS), moved)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_an_empty_mask_has_a_finite_value_and_no_gradient(similarity: Similarity, shape: tuple[int, ...]) -> None:
    fixed, moved = texture(shape), texture(shape, seed=1).repeat(2, *[1] * (1 + len(shape)))
    mask = torch.ones_like(moved)
    mask[0] = 0
    value, gradient = with_gradient(similarity(fixed, mask, radius=RADIUS), moved)
    assert value.isfinite().all()
    assert torch.equal(gradient[0], torch.zeros_like(gradient[0]))
    assert gradient[1].isfinite().all()
    assert gradient[1].abs().max() > 0


def test_intensities_far_from_0_to_1_have_a_finite_gradient(similarity: Similarity, shape: tuple[int, ...]) -> None:
    fixed, moved = texture(shape), 1000 * texture(shape, seed=1) - 300
    value, gradient = with_gradient(similarity(fixed, torch.ones_like(fixed), radius=RADIUS), moved)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_what_lies_far_outside_the_mask_does_not_count(similarity: Similarity, shape: tuple[int, ...]) -> None:
    fixed, moved, mask = texture(shape), texture(shape, seed=1), ball(shape)
    loss = similarity(fixed, mask, radius=1)
    value, gradient = with_gradient(loss, moved)
    changed = moved.clone()
    changed[:, :, 0] = 0.2
    torch.testing.assert_close(loss(changed), value)
    assert gradient[:, :, 0].abs().max() < 1e-8


@pytest.mark.parametrize("name", sorted(set(SIMILARITIES) - {"mind"}))
def test_what_lies_next_to_the_mask_does_not_count(name: str, shape: tuple[int, ...]) -> None:
    """But for descriptors, which are patches and their neighbours, windows hold masked voxels only."""
    fixed, moved, mask = texture(shape), texture(shape, seed=1), ball(shape)
    loss = SIMILARITIES[name](fixed, mask, radius=RADIUS)
    changed = torch.where(mask > 0, moved, texture(shape, seed=2))
    torch.testing.assert_close(loss(changed), loss(moved))
    assert with_gradient(loss, moved)[1][mask == 0].abs().max() < 1e-8


def test_the_order_of_the_batch_does_not_matter(similarity: Similarity, shape: tuple[int, ...]) -> None:
    order = [2, 0, 3, 1]
    fixed, moved = texture(shape), texture(shape, batch=4, seed=1)
    mask = torch.ones_like(moved)
    mask[1, :, : shape[0] // 2] = 0
    value, gradient = with_gradient(similarity(fixed, mask, radius=RADIUS), moved)
    turned, turned_gradient = with_gradient(similarity(fixed, mask[order], radius=RADIUS), moved[order])
    torch.testing.assert_close(turned, value[order], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(turned_gradient, gradient[order], atol=1e-7, rtol=1e-4)


def test_a_pair_scores_the_same_alone_and_in_a_batch(similarity: Similarity, shape: tuple[int, ...]) -> None:
    fixed, moved = texture(shape, batch=3), texture(shape, batch=3, seed=1)
    mask = ball(shape).repeat(3, *[1] * (1 + len(shape)))
    together = similarity(fixed, mask, radius=RADIUS)(moved)
    alone = [similarity(fixed[i, None], mask[i, None], radius=RADIUS)(moved[i, None]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)


def test_it_is_documented_with_a_reference_or_a_formula(similarity: Similarity) -> None:
    text = similarity.__doc__ or ""
    assert "References" in text or "math:" in text


@pytest.mark.parametrize("name", ["lncc", "multi_resolution_ncc", "nmi", "mi", "mind", "ngf"])
def test_measures_for_modalities_do_not_mind_an_inverted_contrast(name: str, shape: tuple[int, ...]) -> None:
    fixed = texture(shape)
    mask = torch.ones_like(fixed).expand(4, *fixed.shape[1:])
    shifted = [torch.roll(fixed, shift, 2) for shift in (0, 1, 2)]
    values = SIMILARITIES[name](fixed, mask, radius=RADIUS)(torch.cat([*[1 - s for s in shifted], fixed]))
    assert values[0] < values[1] < values[2]
    torch.testing.assert_close(values[0], values[3], atol=0.02, rtol=0)


def test_the_ranges_that_are_promised(shape: tuple[int, ...]) -> None:
    fixed, mask = texture(shape), torch.ones(1, 1, *shape)
    ncc, nmi, local, mse = (SIMILARITIES[name](fixed, mask, radius=RADIUS) for name in ("ncc", "nmi", "lncc", "mse"))
    assert float(ncc(0.2 + 0.5 * fixed)) == pytest.approx(0, abs=1e-3)
    assert float(ncc(1 - fixed)) == pytest.approx(2, abs=1e-3)
    assert float(mse(fixed + 0.1)) == pytest.approx(0.01, rel=1e-3)
    assert 0 <= float(nmi(fixed)) < float(nmi(texture(shape, seed=1))) < 1
    beyond = torch.where(fixed > 0.5, 1.0, 0.0)
    assert float(nmi(beyond * 3 - 1)) == pytest.approx(float(nmi(beyond)), abs=1e-6), "beyond 0 and 1 is 0 and 1"
    assert 0 <= float(local(fixed)) < float(local(texture(shape, seed=1))) < 1
    assert float(local(torch.full_like(fixed, 0.5))) == pytest.approx(1, abs=1e-3)


def plain_lncc(moved: Tensor, fixed: Tensor, mask: Tensor, radius: int) -> Tensor:
    """The formula in the documentation of lncc, by convolution and without a thought for speed."""
    n = moved.ndim - 2
    convolve = functional.conv2d if n == 2 else functional.conv3d
    window = torch.ones(1, 1, *[2 * radius + 1] * n, dtype=moved.dtype)

    def mean(x: Tensor) -> Tensor:
        return convolve(x * mask, window, padding=radius) / convolve(mask, window, padding=radius).clamp(min=1e-3)

    covariance = mean(moved * fixed) - mean(moved) * mean(fixed)
    of_moved, of_fixed = (mean(x * x) - mean(x) ** 2 + 1e-3 for x in (moved, fixed))
    squared = covariance**2 / (of_moved * of_fixed) * mask
    return 1 - squared.flatten(1).sum(1) / mask.flatten(1).sum(1)


@pytest.mark.parametrize("radius", [1, 2, 3, 6])
def test_lncc_and_its_analytic_gradient_are_those_of_the_formula(radius: int) -> None:
    for shape in ((13, 12), (9, 8, 10)):
        fixed = torch.rand(1, 1, *shape).double()
        moved = torch.rand(3, 1, *shape).double()
        mask = (torch.rand(3, 1, *shape) > 0.2).double()
        mask[1, :, : shape[0] // 2] = 0
        weights = torch.tensor([1.0, -2.0, 0.3]).double()
        results = []
        for value_of in (
            SIMILARITIES["lncc"](fixed, mask, radius=radius),
            lambda m, f=fixed, w=mask: plain_lncc(m, f, w, radius),
        ):
            image = moved.clone().requires_grad_()
            value = value_of(image)
            (gradient,) = torch.autograd.grad((value * weights).sum(), image)
            results.append((value.detach(), gradient))
        torch.testing.assert_close(results[0][0], results[1][0], atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(results[0][1], results[1][1], atol=1e-10, rtol=1e-6)


def padded_lncc(moved: Tensor, fixed: Tensor, window: int) -> Tensor:
    """Local correlation as VoxelMorph and MONAI define it: zeros around the image, 1e-5 beside the product of sums."""
    n = moved.ndim - 2
    convolve = functional.conv2d if n == 2 else functional.conv3d
    ones = torch.ones(1, 1, *[window] * n, dtype=moved.dtype)

    def total(x: Tensor) -> Tensor:
        return convolve(x, ones, padding=window // 2)

    cross = total(moved * fixed) - total(moved) * total(fixed) / window**n
    of_moved, of_fixed = (total(x * x) - total(x) ** 2 / window**n for x in (moved, fixed))
    return -(cross**2 / (of_moved * of_fixed + 1e-5)).flatten(1).mean(1)


@pytest.mark.parametrize("radius", [1, 4])
def test_lncc_with_zeros_around_is_one_plus_that_of_other_toolkits(radius: int) -> None:
    for shape in ((13, 12), (9, 8, 10)):
        fixed, moved = torch.rand(2, 1, *shape).double(), torch.rand(2, 1, *shape).double()
        ours, our_gradient = with_gradient(lncc(fixed, torch.ones_like(fixed), radius=radius, border="zeros"), moved)
        theirs, their_gradient = with_gradient(lambda m, f=fixed: padded_lncc(m, f, 2 * radius + 1), moved)
        torch.testing.assert_close(ours - 1, theirs, atol=1e-9, rtol=0)
        torch.testing.assert_close(our_gradient, their_gradient, atol=1e-10, rtol=1e-6)
        assert torch.autograd.gradcheck(
            lncc(fixed, torch.ones_like(fixed), radius=radius, border="zeros"), moved.requires_grad_(), fast_mode=True
        )


def test_lncc_with_zeros_around_is_one_plus_monais() -> None:
    losses = pytest.importorskip("monai.losses", reason="MONAI is in the extra `test`")
    theirs = losses.LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=9, reduction="mean")
    fixed, moved = texture((20, 18, 16)), texture((20, 18, 16), seed=1)
    loss = lncc(fixed, torch.ones_like(fixed), radius=4, border="zeros")
    (value, gradient), (expected, expected_gradient) = (
        with_gradient(f, moved) for f in (loss, lambda m: theirs(m, fixed)[None])
    )
    torch.testing.assert_close(value - 1, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5 * float(gradient.abs().max()), rtol=1e-4)


def test_lncc_refuses_a_border_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="border must be"):
        lncc(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), border="mirror")  # type: ignore[arg-type]


def test_no_number_leaves_the_device(similarity: Similarity, shape: tuple[int, ...]) -> None:
    """Tensors without data stand for those of another device: what reads or mixes them raises."""
    there = torch.empty(2, 1, *shape, device="meta")
    assert similarity(there, there, radius=RADIUS)(there).device.type == "meta"


def test_lncc_in_single_precision_follows_double_precision(shape: tuple[int, ...]) -> None:
    fixed, moved = texture(shape), texture(shape, seed=1)
    mask = torch.ones_like(fixed)
    value, gradient = with_gradient(SIMILARITIES["lncc"](fixed, mask, radius=RADIUS), moved)
    exact, exact_gradient = with_gradient(
        SIMILARITIES["lncc"](fixed.double(), mask.double(), radius=RADIUS), moved.double()
    )
    torch.testing.assert_close(value.double(), exact, atol=1e-4, rtol=0)
    assert (gradient - exact_gradient).norm() < 1e-3 * exact_gradient.norm()


@pytest.mark.parametrize("radius", [0, 1, 4, 5, 9, 30])
def test_the_gradient_of_box_sums_is_that_of_the_value(radius: int) -> None:
    x = torch.rand(1, 2, 5, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: box_sum(y, radius), x)
    assert torch.autograd.gradgradcheck(lambda y: box_sum(y, radius) ** 2, x)


@pytest.mark.parametrize("radius", [0, 1, 4, 5, 9, 30])
def test_box_sums_are_those_of_a_convolution(radius: int) -> None:
    for shape in ((12, 9), (6, 1, 11)):
        x = torch.rand(2, 3, *shape).double()
        expected = x.clone()
        for axis in range(2, x.ndim):
            index = torch.arange(x.shape[axis])
            near = ((index[:, None] - index[None]).abs() <= radius).double()
            expected = (expected.movedim(axis, -1) @ near).movedim(-1, axis)
        torch.testing.assert_close(box_sum(x, radius), expected)
