"""The sweep's two tables: every training, and methods against each other, case by case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.fusion_evidence import STRUCTURES
from benchmarks.fusion_scores import interval
from benchmarks.sweep_ground import SEPARATE
from benchmarks.sweep_plan import (
    CROSS_STITCH,
    DEEPATLAS,
    DEEPATLAS_FUSED,
    METHODS,
    REGISTRATION,
    SEGMENTATION,
    TWO_PATHS,
    Draw,
)
from benchmarks.sweep_scores import CaseScore, PairScore, dice_of
from covoxel.metrics import summarise
from covoxel.training.joint.alarm import interval as student

PAIRED = (
    (DEEPATLAS, SEGMENTATION),
    (DEEPATLAS_FUSED, SEGMENTATION),
    (CROSS_STITCH, SEGMENTATION),
    (TWO_PATHS, SEGMENTATION),
    (CROSS_STITCH, TWO_PATHS),
    (DEEPATLAS, REGISTRATION),
    (DEEPATLAS_FUSED, REGISTRATION),
)
"""Methods of which the first is compared with the second."""
MEAN = "mean"
Scores = Sequence[CaseScore] | Sequence[PairScore]


@dataclass(frozen=True)
class Result:
    """One method with the atlases of one draw.

    Parameters
    ----------
    method, draw
        Which.
    scores
        Of the scored cases.
    minutes
        Of training, with all that is shared; not a number where nothing is trained.
    steps
        Of the training, by phase.
    others
        Scores of what comes with it, by name: of another fusion rule, or of the network before the joint phase.
    pairs
        Of its transforms, each scored case with each atlas; empty where it makes none.
    unsupervised
        The same of the registration network that no label has taught.
    stitches
        How far the cross-stitch units are from the identity, and from where they began; empty where there are none.
    """

    method: str
    draw: Draw
    scores: tuple[CaseScore, ...]
    minutes: float = float("nan")
    steps: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, tuple[CaseScore, ...]] = field(default_factory=dict)
    pairs: tuple[PairScore, ...] = ()
    unsupervised: tuple[PairScore, ...] = ()
    stitches: Mapping[str, float] = field(default_factory=dict)


def row_of(result: Result, seed: int) -> dict[str, object]:
    """One row of the first table; the interval draws cases."""
    structures = dice_of(result.scores)
    values = structures.mean(1)
    tails, (low, high) = summarise(values), interval(values, seed)
    row: dict[str, object] = {"labels": result.draw.labels, "draw": result.draw.number, "method": result.method}
    row |= {"dice": tails.mean, "low": low, "high": high}
    row |= {name: structures[:, i].mean() for i, name in enumerate(STRUCTURES.values())}
    row |= {"p5": tails.p5, "minimum": tails.minimum}
    row["hd95_mm"] = float(np.mean([score.hd95_mm for score in result.scores]))
    row["minutes"] = result.minutes
    row |= {name: float(dice_of(scores).mean()) for name, scores in result.others.items()}
    return row | _of_pairs(result) | dict(result.stitches) | {f"steps_{name}": n for name, n in result.steps.items()}


def _of_pairs(result: Result) -> dict[str, object]:
    """Columns about transforms: means over all pairs."""
    row: dict[str, object] = {}
    if result.pairs:
        row["registration_dice"] = float(dice_of(result.pairs).mean())
        row |= {
            name: fmean(getattr(pair, name) for pair in result.pairs)
            for name in ("ndv_percent", "folds_percent", "sd_log_jacobian")
        }
    if result.unsupervised:
        row["unsupervised_dice"] = float(dice_of(result.unsupervised).mean())
    return row


def differences(results: Sequence[Result]) -> list[dict[str, object]]:
    """The second table: what is gained, by number of labels and structure, with Student's interval over the cases.

    Of each case the mean over the draws counts that both methods have.
    """
    rows: list[dict[str, object]] = []
    for labels in sorted({result.draw.labels for result in results}):
        own = {(r.method, r.draw.number): r for r in results if r.draw.labels == labels}
        for first, second in PAIRED:
            draws = sorted(draw for method, draw in own if method == first and (second, draw) in own)
            if draws:
                gained = [_over(own[first, draw].scores, own[second, draw].scores) for draw in draws]
                rows += _rows(labels, f"{first} - {second}", np.mean(gained, axis=0), len(draws))
        rows += _within_rows(labels, list(own.values()))
    return rows


def _within_rows(labels: int, results: Sequence[Result]) -> list[dict[str, object]]:
    """What the joint phase gave a method: over its segmentation, and over the registration, before that phase."""
    rows: list[dict[str, object]] = []
    for method in METHODS:
        own = [result for result in results if result.method == method]
        for what, gained in (
            ("- before joint", [_over(r.scores, r.others[SEPARATE]) for r in own if SEPARATE in r.others]),
            ("registration - unsupervised", [_over(r.pairs, r.unsupervised) for r in own if r.unsupervised]),
        ):
            if gained:
                rows += _rows(labels, f"{method} {what}", np.mean(gained, axis=0), len(gained))
    return rows


def _over(first: Scores, second: Scores) -> NDArray[np.float64]:
    """Differences of Dice, `(case, structure)`."""
    return np.asarray(dice_of(first) - dice_of(second))


def _rows(labels: int, what: str, gains: NDArray[np.float64], draws: int) -> list[dict[str, object]]:
    """A row a structure, and one of their mean; `gains` is `(case, structure)`."""
    columns = {name: gains[:, i] for i, name in enumerate(STRUCTURES.values())} | {MEAN: gains.mean(1)}
    rows: list[dict[str, object]] = []
    for name, values in columns.items():
        low, high = student(values)
        found = {"difference": float(values.mean()), "low": low, "high": high}
        rows.append({"labels": labels, "comparison": what, "structure": name, **found, "draws": draws})
    return rows


COLUMNS = {
    "labels": ("labels", "d"),
    "draw": ("draw", "d"),
    "method": ("method", ""),
    "dice": ("Dice", ".4f"),
    "low": ("low", ".4f"),
    "high": ("high", ".4f"),
    "anterior": ("anterior", ".4f"),
    "posterior": ("posterior", ".4f"),
    "p5": ("p5", ".3f"),
    "minimum": ("minimum", ".3f"),
    "hd95_mm": ("HD95 mm", ".2f"),
    "minutes": ("minutes", ".1f"),
    "joint_label_fusion": ("joint label fusion", ".4f"),
    SEPARATE: ("before joint", ".4f"),
    "registration_dice": ("registration", ".4f"),
    "unsupervised_dice": ("unsupervised", ".4f"),
    "ndv_percent": ("NDV %", ".5f"),
    "folds_percent": ("folds %", ".4f"),
    "sd_log_jacobian": ("SD log J", ".3f"),
    "alpha": ("α off identity", ".3f"),
    "alpha_moved": ("α moved", ".3f"),
}
GAINS = {
    "labels": ("labels", "d"),
    "comparison": ("comparison", ""),
    "structure": ("structure", ""),
    "difference": ("difference", "+.4f"),
    "low": ("low", "+.4f"),
    "high": ("high", "+.4f"),
    "draws": ("draws", "d"),
}


def markdown(rows: Sequence[Mapping[str, object]], columns: Mapping[str, tuple[str, str]]) -> str:
    """A table of the document; what no row has is no column."""
    shown = {key: column for key, column in columns.items() if any(key in row for row in rows)}
    lines = [[title for title, _ in shown.values()], ["---" if not form else "---:" for _, form in shown.values()]]
    lines += [[_cell(row.get(key), form) for key, (_, form) in shown.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: object, form: str) -> str:
    return "n/a" if value is None or value != value else format(value, form)
