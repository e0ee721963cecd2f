"""What every loss of labels must be, and the values that their formulas give."""

import math

import pytest
import torch
from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES, LabelLoss
from covoxel.losses.labels.soft_dice import soft_dice


@pytest.fixture(params=sorted(LABEL_LOSSES))
def loss(request: pytest.FixtureRequest) -> LabelLoss:
    return LABEL_LOSSES[request.param]


@pytest.fixture(params=[(9, 8), (6, 7, 5)], ids=["2-D", "3-D"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    chosen: tuple[int, ...] = request.param
    return chosen


def one_hot(shape: tuple[int, ...], batch: int = 2, labels: int = 3, seed: int = 0) -> Tensor:
    label_map = torch.randint(labels, (batch, *shape), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(label_map, labels).movedim(-1, 1).double()


def guess(shape: tuple[int, ...], batch: int = 2, labels: int = 3) -> Tensor:
    return torch.randn(batch, labels, *shape, generator=torch.Generator().manual_seed(9)).double().softmax(1)


def test_the_truth_costs_nothing_and_the_nearer_the_less(loss: LabelLoss, shape: tuple[int, ...]) -> None:
    truth, wrong = one_hot(shape), one_hot(shape, seed=1)
    values = torch.stack([loss(truth + share * (wrong - truth), truth) for share in (0.0, 0.2, 0.6, 1.0)])
    assert values.shape == (4, 2)
    torch.testing.assert_close(values[0], torch.zeros(2).double(), atol=1e-5, rtol=0)
    assert (values.diff(dim=0) > 0).all()
    assert values.isfinite().all()


def test_the_gradient_is_that_of_the_value(loss: LabelLoss) -> None:
    for shape in ((4, 3), (3, 2, 3)):
        truth, mask = one_hot(shape), torch.rand(2, 1, *shape).double()
        probabilities = guess(shape).requires_grad_()
        assert torch.autograd.gradcheck(lambda p, t=truth, m=mask: loss(p, t, mask=m), probabilities, fast_mode=True)


def test_wrong_one_hot_labels_have_a_gradient(loss: LabelLoss, shape: tuple[int, ...]) -> None:
    """Warped labels are exactly 0 where they should be 1: that must not be the end of learning."""
    truth = one_hot(shape)
    probabilities = one_hot(shape, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(probabilities, truth).sum(), probabilities)
    assert gradient.isfinite().all()
    missed = (truth > 0) & (probabilities == 0)
    missed[:, 0] = False
    assert (gradient[missed] < 0).all()


def test_a_sample_costs_the_same_alone_and_in_a_batch(loss: LabelLoss, shape: tuple[int, ...]) -> None:
    probabilities, truth = guess(shape), one_hot(shape)
    alone = [loss(probabilities[i, None], truth[i, None]) for i in range(2)]
    torch.testing.assert_close(loss(probabilities, truth), torch.cat(alone))


def test_what_lies_outside_the_mask_does_not_count(loss: LabelLoss, shape: tuple[int, ...]) -> None:
    probabilities, truth = guess(shape), one_hot(shape)
    mask = torch.zeros(1, 1, *shape).double()
    mask[:, :, 2:] = 1
    changed = probabilities.clone()
    changed[:, :, :2] = one_hot(shape, seed=5)[:, :, :2]
    torch.testing.assert_close(loss(changed, truth, mask=mask), loss(probabilities, truth, mask=mask))
    assert torch.equal(loss(probabilities, truth, mask=0 * mask), torch.zeros(2).double())


def test_shapes_that_differ_are_refused(loss: LabelLoss) -> None:
    for probabilities, truth in (
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4)),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)),
    ):
        with pytest.raises(ValueError, match="two labels or more"):
            loss(probabilities, truth)
    with pytest.raises(ValueError, match="mask must be"):
        loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), mask=torch.ones(1, 2, 4, 4))


@pytest.mark.parametrize("name", sorted(LABEL_LOSSES))
def test_no_number_leaves_the_device(name: str, shape: tuple[int, ...]) -> None:
    there = torch.empty(2, 3, *shape, device="meta")
    assert LABEL_LOSSES[name](there, there, mask=there[:, :1]).device.type == "meta"


def test_they_are_documented_with_formula_and_reference(loss: LabelLoss) -> None:
    text = loss.__doc__ or ""
    assert "math:" in text
    assert "References" in text


def maps(first: list[int], second: list[int], labels: int = 3) -> tuple[Tensor, Tensor]:
    both = torch.tensor([[first], [second]])
    hot = torch.nn.functional.one_hot(both, labels).movedim(-1, 1).double()
    return hot[:1], hot[1:]


def test_soft_dice_is_the_mean_over_labels_that_are_there() -> None:
    truth, guessed = maps([0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0])
    assert float(soft_dice(guessed, truth)) == pytest.approx(1 - 2 * 2 / 6), "label 2 is in neither and left out"
    truth, guessed = maps([0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 2])
    assert float(soft_dice(guessed, truth)) == pytest.approx((1 / 3 + 1) / 2), "label 2 is in one of the two only"
    assert float(soft_dice(guessed, truth, background=True)) == pytest.approx((1 / 3 + 1 + 1 - 2 / 5) / 3)
    nothing, same = maps([0, 0], [0, 0])
    assert float(soft_dice(nothing, same)) == 0


def test_squared_soft_dice_is_zero_for_equal_probabilities(shape: tuple[int, ...]) -> None:
    soft = guess(shape)
    torch.testing.assert_close(soft_dice(soft, soft, squared=True), torch.zeros(2).double(), atol=1e-12, rtol=0)
    assert (soft_dice(soft, soft) > 0.1).all()


def test_cross_entropy_is_that_of_torch_and_weights_what_is_trusted(shape: tuple[int, ...]) -> None:
    scores = torch.randn(2, 3, *shape).double()
    truth, trust = one_hot(shape), torch.rand(2, 1, *shape).double()
    each = torch.nn.functional.cross_entropy(scores, truth.argmax(1), reduction="none")[:, None]
    torch.testing.assert_close(LABEL_LOSSES["cross_entropy"](scores.softmax(1), truth), each.flatten(1).mean(1))
    weighted = (each * trust).flatten(1).sum(1) / trust.flatten(1).sum(1)
    torch.testing.assert_close(LABEL_LOSSES["cross_entropy"](scores.softmax(1), truth, mask=trust), weighted)


def test_squared_error_counts_both_labels_of_a_mistake() -> None:
    truth, guessed = maps([0, 0, 1, 2], [0, 1, 1, 2])
    assert float(LABEL_LOSSES["squared_error"](guessed, truth)) == pytest.approx(2 / 4)
    assert not math.isnan(float(LABEL_LOSSES["squared_error"](truth, truth)))


def test_correlation_pays_for_places_and_not_for_a_factor() -> None:
    truth, guessed = maps([0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0])
    ncc = LABEL_LOSSES["ncc"]
    assert float(ncc(guessed, truth)) == pytest.approx(1 - (2 / 6 - 1 / 4) / (1 / 4)), "label 2 is in neither"
    half = torch.cat([1 - truth[:, 1:].sum(1, keepdim=True) / 2, truth[:, 1:] / 2], 1)
    assert float(ncc(half, truth)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice(half, truth)) == pytest.approx(1 / 3)
    truth, guessed = maps([0, 0, 1, 1], [0, 2, 0, 0])
    assert float(ncc(guessed, truth)) == pytest.approx(1), "a label that one of them has not"
