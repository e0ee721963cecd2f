"""Rates and floors: what a line through log-volumes says, and what it does not."""

from datetime import date

import numpy as np
import pytest

from covoxel.longitudinal import (
    DateError,
    floor_of,
    parse_date,
    percent_of,
    rate_of,
    robust_line,
    scatter_of,
    years_since_first,
)

YEARS = (0.0, 1.1, 1.9, 3.2)


def grown(percent: float, years: tuple[float, ...] = YEARS, first: float = 5000.0) -> list[float]:
    return [first * (1 + percent / 100) ** t for t in years]


@pytest.mark.parametrize("percent", [-3.0, 0.0, 2.0])
def test_a_compound_rate_is_found_exactly_whatever_the_intervals(percent: float) -> None:
    line = robust_line(YEARS, grown(percent))
    assert line.slope is not None
    assert percent_of(line.slope) == pytest.approx(percent, abs=1e-9)
    assert np.exp(line.intercept) == pytest.approx(5000)


def test_one_visit_gone_wrong_does_not_turn_the_line() -> None:
    years = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    volumes = grown(-2.0, years)
    volumes[4] *= 1.3
    line = robust_line(years, volumes)
    assert line.slope is not None
    assert percent_of(line.slope) == pytest.approx(-2.0, abs=0.05)
    assert abs(np.polyfit(years, np.log(volumes), 1)[0] - np.log(0.98)) > 0.02


def test_time_turned_round_gives_the_opposite_rate() -> None:
    noisy = [v * f for v, f in zip(grown(-3.0), (1.01, 0.995, 1.002, 0.99), strict=True)]
    there = robust_line(YEARS, noisy).slope
    back = robust_line([YEARS[-1] - t for t in YEARS], noisy).slope
    assert there is not None
    assert back == pytest.approx(-there, abs=1e-12)


def test_visits_on_one_day_alone_have_no_rate() -> None:
    line = robust_line([0.0, 0.0], [5000, 5050])
    assert line.slope is None
    assert rate_of(line, 0.01, 10) is None


def test_a_volume_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"volumes must be positive, one at least, got \[5000.0, 0.0\]"):
        robust_line([0, 1], [5000, 0])


def test_the_interval_of_a_rate_holds_the_true_one_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held, count = 0, 0
    for _ in range(150):
        lines = [
            robust_line(YEARS, [v * f for v, f in zip(grown(-1.0), np.exp(rng.normal(0, 0.01, 4)), strict=True)])
            for _ in range(8)
        ]
        scatter, freedom = scatter_of(lines)
        assert freedom == 16
        for line in lines:
            rate = rate_of(line, scatter, freedom)
            assert rate is not None
            assert rate.low is not None
            assert rate.high is not None
            held, count = held + (rate.low <= -1.0 <= rate.high), count + 1
    assert 0.91 < held / count < 0.99


def test_two_visits_of_each_subject_tell_no_scatter() -> None:
    lines = [robust_line([0, 1], [5000, 4900]), robust_line([0, 2], [5000, 4900])]
    assert scatter_of(lines) == (None, 0)
    rate = rate_of(lines[0], None, 0)
    assert rate is not None
    assert (rate.percent, rate.low, rate.high) == (pytest.approx(-2.0), None, None)


def test_the_floor_comes_from_visits_on_one_day_if_there_are_any() -> None:
    rng = np.random.default_rng(1)
    pairs = [list(5000 * np.exp(rng.normal(0, 0.02, 2))) for _ in range(400)]
    floor = floor_of(pairs, 0.5, 99)
    assert floor.source == "same-day visits"
    assert floor.percent == pytest.approx(2.0, rel=0.1)
    assert floor.smallest_change_percent == pytest.approx(100 * np.expm1(1.96 * np.sqrt(2) * 0.02), rel=0.1)
    assert floor_of([], 0.5, 99).source == "residuals"
    assert floor_of([[5000]], None, 0).percent is None


def test_dates_are_days_with_or_without_a_time() -> None:
    assert parse_date("2024-03-01T12:30:00") == date(2024, 3, 1)
    years = years_since_first({"b": date(2022, 1, 1), "a": date(2020, 1, 1)})
    assert years == {"b": pytest.approx(731 / 365.25), "a": 0.0}
    with pytest.raises(DateError, match="the date must be year-month-day, such as 2024-03-01, got '03/2024'"):
        parse_date("03/2024")
