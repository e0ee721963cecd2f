"""Least-cost weights against every choice of indices there is, and against the conditions of an optimum."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion.simplex import least_cost_weights


def costs(count: int, n: int, alpha: float = 0.01, seed: int = 0) -> Tensor:
    """Matrices as joint label fusion makes them: squares of mean products of positive errors."""
    generator = torch.Generator().manual_seed(seed)
    errors = torch.rand((count, n, 20), generator=generator, dtype=torch.float64)
    errors *= 2 * torch.rand((count, n, 1), generator=generator, dtype=torch.float64)
    return (errors @ errors.transpose(1, 2) / 20).square() + alpha * torch.eye(n, dtype=torch.float64)


def signed_costs(count: int, n: int) -> Tensor:
    """Matrices of errors of both signs, of which indices once left out must be taken back."""
    errors = torch.randn((count, n, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return errors @ errors.transpose(1, 2) / 6 + 0.01 * torch.eye(n, dtype=torch.float64)


def best_of_all_choices(cost: Tensor) -> Tensor:
    """Best weights of one matrix, from the solution of every subset of indices that has no negative weight."""
    n, best, least = len(cost), torch.zeros(len(cost), dtype=cost.dtype), torch.inf
    for size in range(1, n + 1):
        for chosen in map(list, combinations(range(n), size)):
            part = torch.linalg.solve(cost[chosen][:, chosen], torch.ones(size, dtype=cost.dtype))
            part = part / part.sum()
            value = float(part @ cost[chosen][:, chosen] @ part)
            if (part >= 0).all() and value < least:
                best, least = torch.zeros_like(best).index_put_((torch.tensor(chosen),), part), value
    return best


@pytest.mark.parametrize("matrices", [costs(40, 5), signed_costs(20, 7)], ids=["positive", "of both signs"])
def test_no_other_choice_of_indices_costs_less(matrices: Tensor) -> None:
    expected = torch.stack([best_of_all_choices(cost) for cost in matrices])
    assert (expected == 0).float().mean() > 0.1
    assert_close(least_cost_weights(matrices), expected, atol=1e-9, rtol=0)


@given(st.integers(1, 40), st.floats(1e-4, 1.0), st.integers(0, 10**6))
def test_at_the_optimum_no_index_could_help(n: int, alpha: float, seed: int) -> None:
    matrices = costs(4, n, alpha, seed)
    weights = least_cost_weights(matrices)
    slope = (matrices @ weights[..., None])[..., 0]
    cost = (weights * slope).sum(1, keepdim=True)
    assert (weights >= 0).all()
    assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))
    assert (slope >= cost * (1 - 1e-7)).all()
    assert_close(torch.where(weights > 1e-9, slope, cost), cost.expand_as(slope), rtol=1e-6, atol=0)


def test_one_index_at_a_time_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = costs(50, 9)
    blocks = least_cost_weights(matrices)
    monkeypatch.setattr("covoxel.fusion.simplex._EXCHANGES", 0)
    assert_close(least_cost_weights(matrices), blocks, atol=1e-9, rtol=0)


def test_alike_indices_share_alike() -> None:
    weights = least_cost_weights(torch.ones(1, 4, 4, dtype=torch.float64) + 0.1 * torch.eye(4, dtype=torch.float64))
    assert_close(weights, torch.full((1, 4), 0.25, dtype=torch.float64))
