"""Summaries: numbers by hand, what is missing, what is infinite."""

import math

import pytest

from covoxel.metrics import summarise


def test_a_hundred_and_one_numbers_have_their_percentiles() -> None:
    summary = summarise([*range(101), float("nan"), float("nan")])
    assert (summary.n, summary.missing) == (101, 2)
    assert (summary.mean, summary.median, summary.p5, summary.p95) == (50, 50, 5, 95)
    assert (summary.minimum, summary.maximum) == (0, 100)
    assert summary.sd == pytest.approx(math.sqrt(101 * 102 / 12))


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_nothing_has_no_mean(values: list[float]) -> None:
    summary = summarise(values)
    assert (summary.n, summary.missing) == (0, len(values))
    assert math.isnan(summary.mean)
    assert math.isnan(summary.minimum)


def test_an_infinite_distance_stays_infinite_and_harms_no_percentile_below_it() -> None:
    summary = summarise([1.0, 2.0, 3.0, float("inf")])
    assert summary.mean == summary.maximum == float("inf")
    assert summary.median in (2.0, 3.0)
    assert summary.p5 == summary.minimum == 1.0
    assert math.isnan(summary.sd)


def test_one_case_has_no_spread() -> None:
    summary = summarise([0.8])
    assert (summary.mean, summary.p5, summary.minimum) == (0.8, 0.8, 0.8)
    assert math.isnan(summary.sd)
