"""What the page says of the joint network, worked out of a Report: candidates, verdicts, agreement, curves, units."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from covoxel.metrics.summary import summarise
from covoxel.report import text
from covoxel.report.curves import Reached, curve, ends
from covoxel.report.gaps import Gap, Guard
from covoxel.report.heatmap import Cell, shade
from covoxel.report.joint_model import Alphas, JointReport, JudgedRow, VerdictRow
from covoxel.report.model import Report
from covoxel.report.plots import Axis, Cloud, Point, Strip, strip
from covoxel.report.views import CaseView, candidate_words

PARTS = ("segments ← segments", "segments ← registers", "registers ← segments", "registers ← registers")
"""Rows of a stitch unit: what a path goes on with, and of whose features."""
CHANNELS_WITH_NUMBERS = 16


@dataclass(frozen=True)
class CandidateRow:
    """A candidate: the cases it was kept for, as a number and as percent of all, and its Dice."""

    name: str
    cases: int
    share: float
    predicted: str
    measured: str


@dataclass(frozen=True)
class UnitView:
    """A stitch unit: its place, how far it is from passing each path's features alone, and shades a channel."""

    place: str
    words: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    dense: bool


@dataclass(frozen=True)
class JointView:
    """The section "Joint network"; `mixed`: more than one candidate was kept."""

    mixed: bool
    candidates: tuple[CandidateRow, ...]
    measured: bool
    agreement: tuple[Strip | Gap, ...]
    verdicts: tuple[VerdictRow, ...]
    judged_columns: tuple[str, ...]
    judged: tuple[tuple[str, tuple[str, ...]], ...]
    curves: tuple[Cloud | Gap, ...]
    units: tuple[UnitView | Gap, ...]
    low: str
    high: str


def joint_of(report: Report, done: Sequence[CaseView], guard: Guard) -> JointView | None:
    """The section of a report, from the cases that have a result; None where no joint network had a part in it."""
    kept = [view for view in done if view.case.candidate]
    joint = report.joint or JointReport("")
    if not kept and report.joint is None:
        return None
    axis = Axis.around([value for unit in joint.alphas.values() for value in _numbers(unit)] or [0.0, 1.0])
    rows = _candidates(kept)
    return JointView(
        mixed=sum(row.cases > 0 for row in rows) > 1,
        candidates=rows,
        measured=any(view.dice is not None for view in kept),
        agreement=guard.many("The agreement of networks", lambda: _agreement(kept)),
        verdicts=joint.verdicts,
        judged_columns=tuple(map(candidate_words, _judged_names(joint.judged))),
        judged=_judged(joint.judged),
        curves=guard.many("A learning curve", lambda: _curves(joint)),
        units=tuple(
            guard.one(f"Stitch unit {place}", partial(_unit, place, unit, axis))
            for place, unit in joint.alphas.items()
            if unit
        ),
        low=f"{axis.low:g}",
        high=f"{axis.high:g}",
    )


def joint_components(report: Report) -> tuple[str, ...]:
    """Components the data tell of, for the methods text: the candidates and how one is chosen."""
    kept = {case.candidate for case in report.cases if case.candidate}
    both, cohort = any("+" in name for name in kept), "cohort" in kept
    return tuple(
        name for name, there in (("joint_both", both), ("joint_cohort", cohort), ("joint_choice", bool(kept))) if there
    )


def _candidates(kept: Sequence[CaseView]) -> tuple[CandidateRow, ...]:
    chosen = Counter(view.case.candidate for view in kept)
    names = dict.fromkeys((*chosen, *(name for view in kept for name in view.case.predicted_by_candidate)))
    rows = [
        CandidateRow(
            name=candidate_words(name),
            cases=chosen[name],
            share=round(100 * chosen[name] / max(1, len(kept)), 1),
            predicted=_mean(view.case.predicted_by_candidate.get(name) for view in kept),
            measured=_mean(view.dice for view in kept if view.case.candidate == name),
        )
        for name in names
    ]
    return tuple(sorted(rows, key=lambda row: (-row.cases, row.name)))


def _mean(values: Iterable[float | None]) -> str:
    return text.number(summarise(value for value in values if value is not None and text.known(value)).mean)


def _judged_names(judged: Sequence[JudgedRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in judged for name in row.dice))


def _judged(judged: Sequence[JudgedRow]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Rows of the table of held-out atlases, their mean below where there are several."""
    names = _judged_names(judged)
    rows = [(row.id, tuple(text.number(row.dice.get(name)) for name in names)) for row in judged]
    if len(judged) > 1:
        rows.append(("Mean", tuple(_mean(row.dice.get(name) for row in judged) for name in names)))
    return tuple(rows)


def _agreement(kept: Sequence[CaseView]) -> tuple[Strip, ...]:
    rows = []
    for name, field, worst_is_high in (
        ("Agreement with fusion", "agreement", False),
        ("Disagreement of views", "spread", True),
    ):
        known = [(view, value) for view in kept if text.known(value := getattr(view.case, field))]
        points = [Point(float(value), view.case.id, view.anchor) for view, value in known if value is not None]
        if points:
            summary = summarise(point.value for point in points)
            tail = ("p95", summary.p95) if worst_is_high else ("p5", summary.p5)
            end = ("max", summary.maximum) if worst_is_high else ("min", summary.minimum)
            written = (("mean", summary.mean), tail, end)
            numbers = (*((key, text.number(value)) for key, value in written), ("n", str(summary.n)))
            axis = Axis.around([point.value for point in points], least=0.0)
            colour = "var(--accent)"
            rows.append(strip(name, colour, points, axis, numbers, text.number, worst_is_high=worst_is_high))
    return tuple(rows)


def _curves(joint: JointReport) -> Iterable[Cloud]:
    for name in dict.fromkeys(point.name for point in joint.curve):
        points = [Reached(p.step, p.value) for p in joint.curve if p.name == name and text.known(p.value)]
        if points:
            words = ends(points, "{0.value:.4g} at step {0.at:g}")
            yield curve(points, f"{name[0].upper()}{name[1:]}: {words}", "step", name.rpartition(" ")[2])


def _unit(place: str, unit: Alphas, axis: Axis) -> UnitView:
    columns = [tuple(value for row in channel for value in row) for channel in unit]
    rows = tuple((part, tuple(shade(channel[at], axis) for channel in columns)) for at, part in enumerate(PARTS))
    shared = [abs(channel[1]) for channel in columns] + [abs(channel[2]) for channel in columns]
    words = f"{text.count(len(unit), 'channel')}; mean share of the other path {sum(shared) / len(shared):.2f}"
    return UnitView(place, words, rows, len(unit) > CHANNELS_WITH_NUMBERS)


def _numbers(unit: Alphas) -> list[float]:
    return [value for channel in unit for row in channel for value in row if text.known(value)]
