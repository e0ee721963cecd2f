"""Each equation by hand: weights of labels, cross-entropy of pairs, risk, fixed weighting; and that they are linear."""

import math

import pytest
import torch
from torch.testing import assert_close

from covoxel.training.data_parameters.losses import (
    class_weights,
    data_parameter_loss,
    fixed_weighting,
    foreground_shares,
    label_weights,
    relative_to_overlap,
    risk,
    seen_voxels,
    soft_cross_entropy,
    spatial_cross_entropy,
)

# Two voxels, two labels: the network gives label 1 with 0.2 and 0.75.
PROBABILITIES = torch.tensor([[[0.8, 0.25]], [[0.2, 0.75]]])
EVEN = torch.ones(2)


def test_class_weights_fall_with_the_power_of_the_count_and_weigh_a_voxel_one_on_average() -> None:
    weights = class_weights(torch.tensor([900, 100]), power=0.5)
    assert_close(weights[1] / weights[0], torch.tensor(3.0))
    assert_close((weights * torch.tensor([0.9, 0.1])).sum(), torch.tensor(1.0))
    assert_close(class_weights(torch.tensor([900, 100]), power=0.0), EVEN)
    assert class_weights(torch.tensor([900, 0])).isfinite().all()


def test_equation_2_by_hand() -> None:
    """Atlas 0 is right on both voxels, atlas 1 on none, atlas 2 sees the second alone."""
    maps = torch.tensor([[[0, 1]], [[1, 0]], [[0, 1]]], dtype=torch.uint8)
    valid = torch.tensor([[[True, True]], [[True, True]], [[False, True]]])
    cost = spatial_cross_entropy(PROBABILITIES.log(), maps, valid, EVEN)
    by_hand = [-(math.log(0.8) + math.log(0.75)) / 2, -(math.log(0.2) + math.log(0.25)) / 2, -math.log(0.75) / 2]
    assert_close(cost, torch.tensor(by_hand))
    weights = torch.tensor([0.5, 0.25, 1.0])
    total = 0.5 * by_hand[0] + 0.25 * by_hand[1] + by_hand[2]
    assert_close(data_parameter_loss(cost, weights), torch.tensor(total))


def test_a_voxel_counts_with_the_class_weight_of_its_label() -> None:
    maps, valid = torch.tensor([[[0, 1]]], dtype=torch.uint8), torch.ones(1, 1, 2, dtype=torch.bool)
    cost = spatial_cross_entropy(PROBABILITIES.log(), maps, valid, torch.tensor([0.5, 4.0]))
    assert_close(cost, torch.tensor([-(0.5 * math.log(0.8) + 4 * math.log(0.75)) / 2]))


@pytest.mark.parametrize("shape", [(7, 6), (5, 4, 3)])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int16])
def test_the_weighted_sum_of_costs_is_the_cost_of_the_weighted_sum_of_labels(
    shape: tuple[int, ...], kind: torch.dtype
) -> None:
    """And so are the gradients of the weights: one pass for all pairs."""
    log_probabilities = torch.randn(4, *shape).log_softmax(0)
    maps, valid = torch.randint(0, 4, (5, *shape)).to(kind), torch.rand(5, *shape) > 0.3
    class_weight = torch.rand(4) + 0.5
    weights = torch.rand(5, requires_grad=True)
    apart = data_parameter_loss(spatial_cross_entropy(log_probabilities, maps, valid, class_weight), weights)
    together = soft_cross_entropy(log_probabilities, label_weights(maps, valid, weights, 4), class_weight)
    assert_close(together, apart)
    (first,) = torch.autograd.grad(apart, weights)
    (second,) = torch.autograd.grad(together, weights)
    assert_close(second, first)


def test_seen_voxels_are_those_of_any_atlas() -> None:
    valid = torch.tensor([[True, False, False], [True, True, False]])
    assert int(seen_voxels(valid)) == 2
    assert int(seen_voxels(torch.zeros(2, 3, dtype=torch.bool))) == 1


def test_equation_3_counts_hard_and_over_all_structures() -> None:
    """Four voxels, one that no atlas sees: background, label 1, label 2."""
    p = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.4, 0.4, 0.3, 0.5], [0.0, 0.3, 0.6, 0.5]])[:, None]
    valid = torch.tensor([[[True, True, False, False]], [[False, True, True, False]]])
    assert_close(risk(p.log(), valid, torch.ones(3)), torch.tensor(2 / 3))
    assert_close(risk(p.log(), valid, torch.tensor([9.0, 0.5, 3.0])), torch.tensor(3.5 / 3))


def test_equation_4_by_hand() -> None:
    got = fixed_weighting(torch.tensor([0, 100]))
    assert_close(got, torch.tensor([1 / (1 + math.e), 1 / (math.log(100 + math.e) + math.e)]))


def test_foreground_is_counted_as_risk_is() -> None:
    """Three voxels seen by any: two structures in atlas 0, of which it sees one; none in atlas 1."""
    maps = torch.tensor([[[0, 1, 2, 2]], [[0, 0, 0, 1]]], dtype=torch.uint8)
    valid = torch.tensor([[[True, True, False, False]], [[False, True, True, False]]])
    assert_close(foreground_shares(maps, valid, torch.tensor([9.0, 0.5, 3.0])), torch.tensor([0.5 / 3, 0.0]))


def test_relative_to_overlap_by_hand() -> None:
    factors, share = relative_to_overlap(torch.tensor([0.2, 0.0]), torch.tensor(0.4), 0.1)
    assert_close(factors, torch.tensor([1 / 0.4, 1 / 0.3]))
    assert_close(share, torch.tensor(0.8))
    factors, share = relative_to_overlap(torch.tensor([0.0]), torch.tensor(0.0), 0.1)
    assert_close(factors, torch.tensor([10.0]))
    assert share == 0
