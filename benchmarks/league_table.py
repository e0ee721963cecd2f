"""The league's table from scores, seconds and trainings, and the bars it is held against."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bar
from benchmarks.fusion_evidence import STRUCTURES
from benchmarks.fusion_scores import interval
from benchmarks.league_methods import LEARNED, REFINED, Method
from benchmarks.league_scoring import CaseScore
from covoxel.metrics import summarise

MAIN = "lapirn-labels"
"""The recipe with labels that the bars are about."""

LEAST_DICE, LEAST_FUSED, MOST_FOLDS, MOST_MS, MOST_SHARE = 0.80, 0.86, 0.05, 50.0, 0.1
MOST_BRAIN_S, MOST_BRAIN_GIB = 15.0, 6.0
FUSED = "locally_weighted"


@dataclass(frozen=True)
class Entry:
    """Everything known about one row.

    Parameters
    ----------
    method
        What it is.
    scores
        One for each case.
    facts
        Columns that were measured elsewhere: of the training, of the clock, of a whole brain.
    supervision
        What its network was taught with; empty without one.
    """

    method: Method
    scores: tuple[CaseScore, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    supervision: str = ""


def row_of(entry: Entry, seed: int) -> dict[str, object]:
    """One row: of all pairs, structures averaged; the interval draws cases."""
    pairs = [pair for case in entry.scores for pair in case.pairs]
    structures = np.array([pair.dice for pair in pairs])
    tails = summarise(structures.mean(1))
    low, high = interval(by_case(entry), seed)
    return {
        "method": entry.method.name,
        "supervision": entry.supervision or "none",
        "labels": "linear indicators",
        "dice": tails.mean,
        "low": low,
        "high": high,
        **{name: structures[:, i].mean() for i, name in enumerate(STRUCTURES.values())},
        "p5": tails.p5,
        "minimum": tails.minimum,
        "hd95_mm": float(np.mean([pair.hd95_mm for pair in pairs])),
        "sd_log_jacobian": float(np.mean([pair.sd_log_jacobian for pair in pairs])),
        "folds_percent": float(np.mean([pair.folds_percent for pair in pairs])),
        "digital_percent": float(np.mean([pair.digital_percent for pair in pairs])),
        "ndv_percent": float(np.mean([pair.ndv_percent for pair in pairs])),
        **_fused(entry, seed),
        **entry.facts,
        "pairs": len(pairs),
    }


def by_case(entry: Entry) -> NDArray[np.float64]:
    """Mean Dice of each case over its atlases and structures, `(case,)`."""
    return np.array([np.mean([pair.dice for pair in case.pairs]) for case in entry.scores])


def _fused(entry: Entry, seed: int) -> dict[str, object]:
    columns: dict[str, object] = {}
    for rule in entry.scores[0].fused:
        values = np.array([np.mean(case.fused[rule]) for case in entry.scores])
        low, high = interval(values, seed)
        columns |= {rule: values.mean(), f"{rule}_low": low, f"{rule}_high": high}
    return columns


def verdicts(entries: Sequence[Entry], rows: Sequence[dict[str, Any]]) -> list[Bar]:
    """What was promised of the main recipe, of the best one that no label taught, and of their costs."""
    pairs = list(zip(entries, rows, strict=True))
    bars: list[Bar] = []
    for entry, row in pairs:
        if entry.method.recipe == MAIN and entry.method.engine == REFINED:
            bars += _refined(row)
    unlabelled = [(e, row) for e, row in pairs if not e.supervision.startswith("labels")]
    best = _best(row for entry, row in unlabelled if entry.method.engine == LEARNED)
    through = _best(row for entry, row in unlabelled if entry.method.template is not None)
    svf = next((row for row in rows if row["method"] == "svf"), None)
    for found, what in ((best, "best network that no label taught"), (through, "without labels")):
        if found is not None and svf is not None:
            bars += _beside_svf(found, svf, what)
    alone = next((r for e, r in pairs if (e.method.recipe, e.method.engine) == (MAIN, LEARNED)), None)
    for costly in (alone, best if best is not alone else None):
        bars += _costs(costly) if costly is not None else []
    return [bar for bar in bars if not np.isnan(bar.value)]


def _refined(row: dict[str, Any]) -> list[Bar]:
    name = row["method"]
    return [
        Bar(f"{name}: single-atlas Dice", row["dice"], LEAST_DICE, True),
        Bar(f"{name}: folded voxels, %", row["folds_percent"], MOST_FOLDS, False),
        Bar(f"{name}: Dice of {FUSED}", row.get(FUSED, float("nan")), LEAST_FUSED, True),
    ]


def _best(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the highest Dice, if there is one."""
    return max(rows, key=lambda row: float(row["dice"]), default=None)


def _beside_svf(best: dict[str, Any], svf: dict[str, Any], what: str) -> list[Bar]:
    name = f"{best['method']} ({what})"
    bars = [Bar(f"{name}: Dice beside svf's", best["dice"], svf["dice"], True)]
    for threads in (1, 2):
        share = best.get(f"ms_{threads}", float("nan")) / svf.get(f"ms_{threads}", float("nan"))
        bars.append(Bar(f"{name}: time over svf's, {threads} threads", share, MOST_SHARE, False))
    return bars


def _costs(row: dict[str, Any]) -> list[Bar]:
    name, none = row["method"], float("nan")
    return [
        Bar(f"{name}: ms a pair, ten at once, two threads", row.get("ms_2", none), MOST_MS, False),
        Bar(f"{name}: ms of a single pair, two threads", row.get("ms_single", none), MOST_MS, False),
        Bar(f"{name}: a brain of 160×192×224, s", row.get("brain_s", none), MOST_BRAIN_S, False),
        Bar(f"{name}: its peak memory, GiB", row.get("brain_gib", none), MOST_BRAIN_GIB, False),
    ]


_QUALITY = {
    "method": ("method", ""),
    "supervision": ("taught by", ""),
    "dice": ("Dice", ".4f"),
    "low": ("low", ".4f"),
    "high": ("high", ".4f"),
    "p5": ("p5", ".3f"),
    "minimum": ("minimum", ".3f"),
    "hd95_mm": ("HD95 mm", ".2f"),
    "sd_log_jacobian": ("SD log J", ".3f"),
    "folds_percent": ("folds %", ".4f"),
    "digital_percent": ("digital %", ".4f"),
    "ndv_percent": ("NDV %", ".5f"),
    "locally_weighted": ("fused, locally weighted", ".4f"),
    "joint_label_fusion": ("fused, joint", ".4f"),
}
_COST = {
    "method": ("method", ""),
    "parameters": ("parameters", ",.0f"),
    "steps": ("steps", ",.0f"),
    "best_step": ("best step", ",.0f"),
    "minutes": ("minutes", ".1f"),
    "ms_1": ("ms, 1 thread", ".1f"),
    "ms_2": ("ms, 2 threads", ".1f"),
    "ms_single": ("ms, single pair", ".1f"),
    "gpu_ms": ("ms, GPU", ".2f"),
    "gpu_ms_single": ("ms, GPU, single pair", ".2f"),
    "brain_s": ("brain s", ".1f"),
    "brain_gib": ("brain GiB", ".1f"),
}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The two tables of the document: how good, and at what cost; what was not asked for is no column."""
    return "\n\n".join(_markdown(rows, columns) for columns in (_QUALITY, _COST)) + "\n"


def _markdown(rows: Sequence[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> str:
    shown = {key: column for key, column in columns.items() if any(key in row for row in rows)}
    lines = [[title for title, _ in shown.values()], ["---" if not form else "---:" for _, form in shown.values()]]
    lines += [[_cell(row.get(key), form) for key, (_, form) in shown.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any, form: str) -> str:
    return "n/a" if value is None or value != value else format(value, form)
