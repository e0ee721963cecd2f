"""Data parameters: half confidence at first, found by name, and only those of the step are moved."""

import math

import pytest
import torch
from torch.testing import assert_close

from covoxel.training import DataParameters

PAIRS = [("a", "x"), ("a", "y"), ("b", "x")]


def test_equation_1_by_hand() -> None:
    parameters = DataParameters(PAIRS)
    assert_close(parameters(torch.arange(3)), torch.full((3,), 0.5))
    with torch.no_grad():
        parameters.embedding.weight[:, 0] = torch.tensor([math.log(3), 0, -40])
    assert_close(parameters(torch.arange(3)), torch.tensor([0.75, 0.5, 4.2484e-18]))


def test_pairs_are_found_by_name() -> None:
    parameters = DataParameters(PAIRS)
    with torch.no_grad():
        parameters.embedding.weight[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    assert parameters.raw("a", ["y", "x"]) == [2.0, 1.0]
    assert parameters.places("b", ["x"]).tolist() == [2]
    with pytest.raises(KeyError, match="no data parameter for case b and atlas y"):
        parameters.raw("b", ["x", "y"])


def test_the_table_has_a_row_a_pair() -> None:
    table = DataParameters(PAIRS).table()
    assert list(table.columns) == ["case", "atlas", "parameter", "confidence"]
    assert list(zip(table["case"], table["atlas"], strict=True)) == PAIRS
    assert (table["parameter"] == 0).all()
    assert (table["confidence"] == 0.5).all()


def test_pairs_that_a_step_does_not_see_keep_their_value_though_they_have_momentum() -> None:
    parameters = DataParameters(PAIRS)
    optimiser = torch.optim.SparseAdam(list(parameters.parameters()), lr=0.1)
    for seen in ([0, 1, 2], [0, 1, 2], [1]):
        before = parameters.embedding.weight.detach().clone()
        optimiser.zero_grad()
        parameters(torch.tensor(seen)).sum().backward()
        optimiser.step()
    moved = (parameters.embedding.weight.detach() - before)[:, 0]
    assert (moved != 0).tolist() == [False, True, False]


@pytest.mark.parametrize(("pairs", "rule"), [([], "one pair"), ([*PAIRS, ("a", "y")], "named twice")])
def test_pairs_must_be_there_and_unique(pairs: list[tuple[str, str]], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        DataParameters(pairs)
