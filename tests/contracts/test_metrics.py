"""What every metric of label maps must be."""

import math

import pytest
import torch
from torch import Tensor

from covoxel.metrics import METRICS, Metric

SPACING_MM = (1.0, 1.5, 2.5)


@pytest.fixture(params=sorted(METRICS))
def metric(request: pytest.FixtureRequest) -> Metric:
    return METRICS[request.param]


@pytest.fixture(params=[(20, 17), (20, 17, 14)], ids=["2-D", "3-D"])
def truth(request: pytest.FixtureRequest) -> Tensor:
    labels = torch.zeros(request.param, dtype=torch.int64)
    labels[3:9, 4:12] = 2
    labels[11:16, 2:10] = 7
    return labels


def call(metric: Metric, label_map: Tensor, truth: Tensor, values: tuple[int, ...] = (2, 7)) -> dict[int, float]:
    return metric(label_map, truth, values, spacing_mm=SPACING_MM[: truth.ndim])


def test_equal_label_maps_score_perfectly(metric: Metric, truth: Tensor) -> None:
    assert call(metric, truth, truth) == {2: metric.perfect, 7: metric.perfect}


def test_a_missing_half_is_worse_than_perfect_and_better_than_nothing(metric: Metric, truth: Tensor) -> None:
    half = truth.clone()
    half[:6] = 0
    score = call(metric, half, truth)
    assert score[7] == metric.perfect
    assert min(metric.perfect, metric.worst) < score[2] < max(metric.perfect, metric.worst)


def test_a_label_in_one_map_alone_scores_worst_and_in_neither_is_not_applicable(metric: Metric, truth: Tensor) -> None:
    score = call(metric, truth.masked_fill(truth == 7, 0), truth, (2, 7, 5))
    assert score[7] == metric.worst
    assert math.isnan(score[5])


def test_background_is_never_counted(metric: Metric, truth: Tensor) -> None:
    assert set(call(metric, truth, truth, (0, 2, 7))) == {2, 7}


def test_label_map_and_truth_may_change_places(metric: Metric, truth: Tensor) -> None:
    if not metric.symmetric:
        pytest.skip("claims no symmetry")
    other = truth.roll((1, 2), (0, 1))
    assert call(metric, other, truth) == pytest.approx(call(metric, truth, other), abs=1e-12)


def test_turning_both_maps_changes_nothing(metric: Metric, truth: Tensor) -> None:
    other = truth.roll((1, 2), (0, 1))
    turned = metric(
        other.transpose(0, 1).flip(0), truth.transpose(0, 1).flip(0), (2, 7),
        spacing_mm=(SPACING_MM[1], SPACING_MM[0], *SPACING_MM[2 : truth.ndim]),
    )  # fmt: skip
    assert turned == pytest.approx(call(metric, other, truth), abs=1e-12)


def test_maps_of_two_shapes_and_fractions_are_refused(metric: Metric, truth: Tensor) -> None:
    with pytest.raises(ValueError, match="share one grid"):
        call(metric, truth[1:], truth)
    with pytest.raises(ValueError, match="integers"):
        call(metric, truth.float(), truth)


def test_it_says_what_it_is(metric: Metric) -> None:
    assert metric.perfect != metric.worst
    assert metric.function.__doc__
