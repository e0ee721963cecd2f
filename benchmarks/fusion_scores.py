"""Figures from scores: means with bootstrap intervals, how well a number ranks, how well it tells bad from good."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from covoxel.metrics import summarise

_DRAWS = 5000


@dataclass(frozen=True)
class Score:
    """One method's result on one case.

    Parameters
    ----------
    part
        Part of the benchmark.
    atlases
        How many.
    method, case
        Their names.
    dice
        Mean over the structures.
    seconds, cpu_seconds
        Of the fusion.
    predicted
        Dice predicted without the truth.
    chosen
        Rule that was chosen.
    """

    part: str
    atlases: int
    method: str
    case: str
    dice: float
    seconds: float = float("nan")
    cpu_seconds: float = float("nan")
    predicted: float = float("nan")
    chosen: str = ""


def dice_of(scores: Sequence[Score], part: str, method: str, atlases: int) -> NDArray[np.float64]:
    """Dice of one method, `(case,)`, in order of the cases; empty if there is none."""
    own = [s for s in scores if (s.part, s.method, s.atlases) == (part, method, atlases)]
    return np.array([s.dice for s in sorted(own, key=lambda s: s.case)], dtype=np.float64)


def table(scores: Sequence[Score], seed: int) -> list[dict[str, object]]:
    """One row for each part, number of atlases and method, in order of appearance."""
    groups: dict[tuple[str, int, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.part, score.atlases, score.method), []).append(score)
    rows: list[dict[str, object]] = []
    for (part, atlases, method), own in groups.items():
        values = np.array([s.dice for s in own])
        tails, (low, high) = summarise(values), interval(values, seed)
        predicted = [s.predicted for s in own]
        rows.append(
            {"part": part, "atlases": atlases, "method": method, "mean": tails.mean, "low": low, "high": high}
            | {"p5": tails.p5, "minimum": tails.minimum, "predicted": float(np.mean(predicted))}
            | {"cpu_s": float(np.mean([s.cpu_seconds for s in own]))}
            | {"wall_s": float(np.mean([s.seconds for s in own])), "cases": len(own)}
        )
    return rows


def curve(scores: Sequence[Score]) -> pd.DataFrame:
    """Mean Dice of the rules, one row a rule, one column a number of atlases."""
    own = pd.DataFrame([(s.method, s.atlases, s.dice) for s in scores if s.part == "rules"])
    own.columns = pd.Index(["method", "atlases", "dice"])
    means = own.groupby(["method", "atlases"], sort=False)["dice"].mean().unstack()
    return means[sorted(means.columns)].reset_index().rename_axis(columns=None)


def interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Bootstrap interval, 95 %, of the mean: cases drawn again with replacement."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(_DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation; nan if either is constant."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def auroc(bad: ArrayLike, good: ArrayLike) -> float:
    """Chance that a bad one has a lower number than a good one, a tie counting half; nan if there are none."""
    low, high = np.asarray(bad, dtype=np.float64), np.asarray(good, dtype=np.float64)
    if not (len(low) and len(high)):
        return float("nan")
    ahead = np.sign(high[None] - low[:, None])
    return float((ahead + 1).mean() / 2)
