"""Tally: sums and counts of losses, plain numbers that a checkpoint keeps, and their means."""

import math
from collections.abc import Sequence


def add(sums: dict[str, float], name: str, values: Sequence[float]) -> None:
    """Add `values` to what `sums` has under `name`."""
    sums[name] = sums.get(name, 0.0) + math.fsum(values)
    sums[f"{name} count"] = sums.get(f"{name} count", 0.0) + len(values)


def mean(sums: dict[str, float], name: str) -> float:
    """Mean of the values that were added under `name`; not a number if there were none."""
    count = sums.get(f"{name} count", 0.0)
    return sums[name] / count if count else math.nan
