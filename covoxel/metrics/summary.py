"""Summary of one number over many cases: a mean hides the worst cases, so they are shown beside it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean and tails of one number over cases.

    Parameters
    ----------
    n
        Cases that have the number.
    missing
        Cases that do not (NaN, n/a); in none of the other fields.
    mean, sd, median
        Standard deviation with n - 1; NaN for fewer than two cases.
    p5, p95
        Percentiles, linear between cases.
    minimum, maximum
        Over the cases that have the number.
    """

    n: int
    missing: int
    mean: float
    sd: float
    median: float
    p5: float
    p95: float
    minimum: float
    maximum: float


def summarise(values: Iterable[float]) -> Summary:
    """Summary of `values`; NaN counts as missing, and everything is NaN where no number is left."""
    everything = np.asarray(list(values), dtype=np.float64)
    numbers = everything[~np.isnan(everything)]
    n, nan = len(numbers), float("nan")
    if not n:
        return Summary(0, len(everything), nan, nan, nan, nan, nan, nan, nan)
    finite = bool(np.isfinite(numbers).all())
    # An infinite distance is a rank, not a quantity: percentiles next to it are taken, not interpolated.
    p5, median, p95 = (
        float(p) for p in np.percentile(numbers, (5, 50, 95), method="linear" if finite else "closest_observation")
    )
    return Summary(
        n=n,
        missing=len(everything) - n,
        mean=float(numbers.mean()),
        sd=float(numbers.std(ddof=1)) if n > 1 and finite else nan,
        median=median,
        p5=p5,
        p95=p95,
        minimum=float(numbers.min()),
        maximum=float(numbers.max()),
    )
