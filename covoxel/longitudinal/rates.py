"""Rates of change: a robust line through the logarithms of volumes, and the interval the study's scatter gives it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
_SAME_TIME_YEARS = 1e-6


@dataclass(frozen=True)
class Line:
    """Change of one structure of one subject.

    Parameters
    ----------
    slope
        Of the logarithm of the volume, a year; None where the visits have no two times.
    intercept
        Logarithm of the volume at the first visit, of the line.
    residuals
        Of the logarithms, in the order of the visits.
    spread
        Sum of squared distances of the times from their mean, years²: what an interval of the slope hangs on.
    """

    slope: float | None
    intercept: float
    residuals: tuple[float, ...]
    spread: float


@dataclass(frozen=True)
class Rate:
    """Percent a year, compound, with the ends of its 95 % interval where they are known."""

    percent: float
    low: float | None = None
    high: float | None = None


def robust_line(years: Sequence[float], volumes: Sequence[float]) -> Line:
    """Theil-Sen line through the logarithms of volumes: the median of the slopes of all pairs of times.

    Parameters
    ----------
    years, volumes
        Of the visits of one subject; volumes are positive.

    Raises
    ------
    ValueError
        If a volume is not positive, or there is none.

    References
    ----------
    Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 1968.
    """
    t, v = np.asarray(years, dtype=np.float64), np.asarray(volumes, dtype=np.float64)
    if not len(v) or not (v > 0).all() or not np.isfinite(v).all():
        raise ValueError(f"volumes must be positive, one at least, got {v.tolist()}")
    logs = np.log(v)
    pairs = [(i, j) for i, j in combinations(range(len(t)), 2) if abs(t[j] - t[i]) > _SAME_TIME_YEARS]
    if not pairs:
        return Line(None, float(np.median(logs)), tuple(float(r) for r in logs - np.median(logs)), 0.0)
    slope = float(np.median([(logs[j] - logs[i]) / (t[j] - t[i]) for i, j in pairs]))
    rest = logs - slope * t
    intercept = float(np.median(rest))
    spread = float(((t - t.mean()) ** 2).sum())
    return Line(slope, intercept, tuple(float(r) for r in rest - intercept), spread)


def scatter_of(lines: Sequence[Line]) -> tuple[float | None, int]:
    """Standard deviation of log-volumes around their lines over all subjects, and its degrees of freedom.

    Three visits or more of a subject are needed to say anything; None and 0 where no subject has them.
    """
    told = [line for line in lines if line.slope is not None and len(line.residuals) > 2]
    freedom = sum(len(line.residuals) - 2 for line in told)
    if not freedom:
        return None, 0
    # Around its own mean: the median through which a robust line passes leaves a little more than least squares would.
    squares = sum(float(np.var(line.residuals)) * len(line.residuals) for line in told)
    return float(np.sqrt(squares / freedom)), freedom


def rate_of(line: Line, scatter: float | None, freedom: int) -> Rate | None:
    """Rate of a line, with the interval that a scatter of log-volumes known from `freedom` degrees gives it."""
    if line.slope is None:
        return None
    if scatter is None or freedom < 1:
        return Rate(percent_of(line.slope))
    reach = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, freedom)) * scatter / float(np.sqrt(line.spread))
    return Rate(percent_of(line.slope), percent_of(line.slope - reach), percent_of(line.slope + reach))


def percent_of(log_change: float) -> float:
    """Change in percent of a change of a logarithm."""
    return float(100 * np.expm1(log_change))
