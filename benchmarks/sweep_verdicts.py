"""What was promised of joint training, held against what a sweep found."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.common import Bar
from benchmarks.sweep_plan import CROSS_STITCH, DEEPATLAS, DEEPATLAS_FUSED, ONE_NETWORK, SEGMENTATION
from benchmarks.sweep_table import MEAN, Result, row_of

LEAST_GAIN, LEAST_OF_ONE, LEAST_REGISTRATION_GAIN = 0.03, 0.80, 0.02
MOST_NDV_PERCENT = 0.05
LEAST_ALPHA = 0.01
GAIN_AT = 5
JOINT = (DEEPATLAS, DEEPATLAS_FUSED, *ONE_NETWORK)


def verdicts(results: Sequence[Result], gains: Sequence[Mapping[str, Any]], seed: int) -> list[Bar]:
    """Bars of the promises about which the sweep says something; numbers are means over the draws."""
    rows = [row_of(result, seed) for result in results if result.method in JOINT]
    return [*_gains(gains), *_of_one(rows), *_registration(gains), *_folds(rows), *_stitches(rows)]


def _gains(gains: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """DeepAtlas over segmentation alone."""
    found = {row["comparison"]: row for row in gains if row["labels"] == GAIN_AT and row["structure"] == MEAN}
    wanted = {method: found.get(f"{method} - {SEGMENTATION}") for method in (DEEPATLAS, DEEPATLAS_FUSED)}
    return [
        Bar(f"N = {GAIN_AT}: {method}, Dice over segmentation alone", row["difference"], LEAST_GAIN, True)
        for method, row in wanted.items()
        if row is not None
    ]


def _of_one(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """The best joint method with one label."""
    means = _means([row for row in rows if row["labels"] == 1], "dice")
    if not means:
        return []
    best = max(means, key=lambda method: means[method])
    return [Bar(f"N = 1: {best} (best joint method), Dice", means[best], LEAST_OF_ONE, True)]


def _registration(gains: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Registration of DeepAtlas over that which no label taught."""
    return [
        Bar(
            f"N = {row['labels']}: {row['comparison']}, single-atlas Dice",
            row["difference"],
            LEAST_REGISTRATION_GAIN,
            True,
        )
        for row in gains
        for method in (DEEPATLAS, DEEPATLAS_FUSED)
        if row["comparison"] == f"{method} registration - unsupervised" and row["structure"] == MEAN
    ]


def _folds(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """The worst training of each joint method."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if "ndv_percent" in row:
            found.setdefault(row["method"], []).append(row["ndv_percent"])
    return [
        Bar(f"{method}: NDV of its worst training, %", max(values), MOST_NDV_PERCENT, False)
        for method, values in found.items()
    ]


def _stitches(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Whether tasks exchange features, and whether training had a say in it."""
    own = [row for row in rows if row["method"] == CROSS_STITCH and "alpha" in row]
    if not own:
        return []
    return [
        Bar("cross-stitch: mean |α - identity|", fmean(row["alpha"] for row in own), LEAST_ALPHA, True),
        Bar("cross-stitch: mean |α - α before training|", fmean(row["alpha_moved"] for row in own), LEAST_ALPHA, True),
    ]


def _means(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    """Mean over the draws by method."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(float(row[column]))
    return {method: fmean(values) for method, values in found.items()}
