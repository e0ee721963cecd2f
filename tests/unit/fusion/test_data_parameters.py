"""Consensus by data parameters: the paper's formulas by hand, what is refused, and who is heard where."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion import Evidence, fuse
from covoxel.fusion.data_parameters import WEIGHTINGS

E = math.e
PARAMETERS = (1.5, -0.5, 0.25)


def evidence_of(labels: Tensor, valid: Tensor | None = None) -> Evidence:
    """Evidence with indicators `(atlas, label, *shape)` and no intensities."""
    atlases, count, *shape = labels.shape
    valid = torch.ones((atlases, *shape), dtype=torch.bool) if valid is None else valid
    return Evidence(torch.zeros(shape), torch.zeros((atlases, *shape)), labels, torch.arange(count), valid)


def three_atlases() -> Evidence:
    """Of 6 x 5 voxels, the first atlas gives 12 to label 1, the second 6 to label 2, the third none to either."""
    labels = torch.zeros(3, 3, 6, 5)
    labels[0, 1, :, :2] = 1
    labels[1, 2, :, 0] = 1
    labels[:, 0] = 1 - labels[:, 1:].sum(1)
    return evidence_of(labels)


def by_hand(weighting: str) -> list[float]:
    confidence = [1 / (1 + math.exp(-p)) for p in PARAMETERS]
    weights = {
        "softmax": [math.exp(p) for p in PARAMETERS],
        "sigmoid": confidence,
        "fixed": [c / (math.log(n + E) + E) for c, n in zip(confidence, (12, 6, 0), strict=True)],
    }[weighting]
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_weights_are_those_of_the_paper(weighting: str) -> None:
    first, second, third = by_hand(weighting)
    got = fuse("data_parameters", three_atlases(), parameters=PARAMETERS, weighting=weighting).probabilities
    assert_close(got[:, 2, 0], torch.tensor([third, first, second]))
    assert_close(got[:, 2, 1], torch.tensor([second + third, first, 0.0]))


@pytest.mark.parametrize("weighting", ["softmax", "sigmoid"])
def test_without_parameters_it_is_the_vote(weighting: str) -> None:
    labels = torch.rand(4, 3, 6, 5, 4)
    evidence = evidence_of(labels / labels.sum(1, keepdim=True), torch.rand(4, 6, 5, 4) > 0.2)
    got = fuse("data_parameters", evidence, weighting=weighting)
    assert_close(got.probabilities, fuse("majority", evidence).probabilities, atol=1e-6, rtol=0)


def test_of_two_labels_the_one_above_a_half_wins() -> None:
    shares = torch.rand(5, 40, 30)
    evidence = evidence_of(torch.stack([1 - shares, shares], 1))
    raw = torch.randn(5)
    consensus = (raw.softmax(0).view(5, 1, 1) * shares).sum(0) > 0.5
    assert torch.equal(fuse("data_parameters", evidence, parameters=raw.tolist()).label_map, consensus.long())


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_one_who_is_not_trusted_decides_where_no_other_sees(weighting: str) -> None:
    evidence = three_atlases()
    evidence.valid[0, 3:] = False
    evidence.valid[2, 3:] = False
    got = fuse("data_parameters", evidence, parameters=[4000.0, -4000.0, 0.0], weighting=weighting)
    assert (got.label_map[3:, 0] == 2).all()
    assert (got.label_map[:3, :2] == 1).all()
    assert (got.confidence[3:] == 1).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_parameter_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"parameters must be finite numbers, got {value} for atlas 1"):
        fuse("data_parameters", three_atlases(), parameters=[0.0, value, 0.0])


@pytest.mark.parametrize("parameters", [[], [1.0, 2.0], [0.0] * 4])
def test_a_parameter_too_few_or_too_many_is_refused(parameters: Sequence[float]) -> None:
    with pytest.raises(ValueError, match=f"as many as atlases, 3, got {len(parameters)}"):
        fuse("data_parameters", three_atlases(), parameters=parameters)


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of softmax, sigmoid, fixed, got 'raw'"):
        fuse("data_parameters", three_atlases(), weighting="raw")
