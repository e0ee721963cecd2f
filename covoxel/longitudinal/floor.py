"""Test-retest floor: the change that is measured where there is none, below which a measured change says nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Floor:
    """What a volume of one structure scatters by.

    Parameters
    ----------
    percent
        Standard deviation of one volume, percent of it; None where nothing tells it.
    smallest_change_percent
        Least change between two visits that is more than scatter, 95 times in 100; None likewise.
    source
        "same-day visits", "residuals" or "unknown".
    count
        Pairs of visits, or degrees of freedom, that it was taken from.
    """

    percent: float | None
    smallest_change_percent: float | None
    source: str
    count: int


def floor_of(same_day: Sequence[Sequence[float]], scatter: float | None, freedom: int) -> Floor:
    """Floor of one structure, from visits on one day if there are any, else from what the lines leave over.

    Parameters
    ----------
    same_day
        For each subject and day with several visits, their volumes.
    scatter, freedom
        Of log-volumes around the lines, as `scatter_of` gives them. What is not straight in a subject counts as
        scatter there, so this is rather too large.
    """
    days = [np.log(np.asarray(volumes, dtype=np.float64)) for volumes in same_day if len(volumes) > 1]
    if days:
        degrees = sum(len(logs) - 1 for logs in days)
        deviation = float(np.sqrt(sum(float(np.var(logs)) * len(logs) for logs in days) / degrees))
        pairs = sum(len(list(combinations(logs, 2))) for logs in days)
        return _floor(deviation, "same-day visits", pairs)
    if scatter is not None and freedom > 0:
        return _floor(scatter, "residuals", freedom)
    return Floor(None, None, "unknown", 0)


def _floor(deviation: float, source: str, count: int) -> Floor:
    change = _NORMAL_95 * float(np.sqrt(2)) * deviation
    return Floor(100 * float(np.expm1(deviation)), 100 * float(np.expm1(change)), source, count)
