"""What the page says of label fusion, worked out of a Report: rules, weights, rejected atlases, predictions, curves."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from covoxel.metrics.summary import summarise
from covoxel.report import text
from covoxel.report.curves import Checked, Reached, against, curve, ends, errors
from covoxel.report.fusion_model import CurvePoint, LearningPoint
from covoxel.report.gaps import Gap, Guard
from covoxel.report.heatmap import HeatMap, heat_map
from covoxel.report.model import DONE, Report
from covoxel.report.plots import Cloud
from covoxel.report.views import CaseView

REASONS_SHOWN = 3
_FUSED = ("", "fusion")  # whose label map is that of the rule


@dataclass(frozen=True)
class RuleRow:
    """A rule: the cases it made, as a number and as percent of all, and its Dice, predicted and measured."""

    name: str
    cases: int
    share: float
    predicted: str
    measured: str


@dataclass(frozen=True)
class LeftOut:
    """An atlas that was left out: of how many cases, and why, the commonest reason first, with its count in words."""

    atlas: str
    cases: str
    reasons: tuple[tuple[str, str], ...]
    more: int


@dataclass(frozen=True)
class FusionView:
    """The section "Label fusion"; `mixed`: more than one rule made results."""

    mixed: bool
    rules: tuple[RuleRow, ...]
    predicted: bool
    measured: bool
    heat: HeatMap | Gap | None
    left_out: tuple[LeftOut, ...]
    predictions: tuple[Cloud | Gap, ...]
    curves: tuple[Cloud | Gap, ...]
    warning: str


def fusion_of(report: Report, done: Sequence[CaseView], guard: Guard) -> FusionView | None:
    """The section of a report, from the cases that have a result; None where nothing of it is known."""
    rules = _rules(done)
    heat = guard.one("The worth of each atlas", lambda: heat_map(done))
    left_out = tuple(_left_out(done))
    predictions = guard.many("A plot of predicted against measured Dice", lambda: _predictions(report, done))
    curves = (
        *guard.many("The Dice against the number of atlases", lambda: _atlas_curve(report.atlas_curve)),
        *guard.many("A learning curve", lambda: _learning(report.learning)),
    )
    warning = _divergence(report.learning)
    if not (rules or heat or left_out or predictions or curves or warning):
        return None
    return FusionView(
        mixed=sum(row.cases > 0 for row in rules) > 1,
        rules=rules,
        predicted=any(text.known(value) for view in done for value in view.case.predicted_by_rule.values()),
        measured=any(view.case.rule and view.case.candidate in _FUSED and view.dice is not None for view in done),
        heat=heat,
        left_out=left_out,
        predictions=predictions,
        curves=curves,
        warning=warning,
    )


def fusion_components(report: Report) -> tuple[str, ...]:
    """Components the data tell of, for the methods text: the rules that made results, selection, calibration."""
    done = [case for case in report.cases if case.status == DONE]
    rules = dict.fromkeys(case.rule for case in done if case.rule)
    rejected = any(atlas.rejected for case in done for atlas in case.atlases)
    trusted = any(text.known(atlas.trust) for case in done for atlas in case.atlases)
    return (
        *rules,
        *(("data_parameters",) if trusted or report.learning else ()),
        *(("atlas_selection",) if rejected else ()),
        *(("calibration",) if report.calibration else ()),
    )


def _rules(done: Sequence[CaseView]) -> tuple[RuleRow, ...]:
    chosen = Counter(view.case.rule for view in done if view.case.rule)
    names = dict.fromkeys((*chosen, *(rule for view in done for rule in view.case.predicted_by_rule)))
    total = sum(chosen.values()) or 1
    rows = [
        RuleRow(
            name=text.words(rule),
            cases=chosen[rule],
            share=round(100 * chosen[rule] / total, 1),
            predicted=_mean(view.case.predicted_by_rule.get(rule) for view in done),
            measured=_mean(view.dice for view in done if view.case.rule == rule and view.case.candidate in _FUSED),
        )
        for rule in names
    ]
    return tuple(sorted(rows, key=lambda row: (-row.cases, row.name)))


def _mean(values: Iterable[float | None]) -> str:
    return text.number(summarise(value for value in values if value is not None and text.known(value)).mean)


def _left_out(done: Sequence[CaseView]) -> Iterable[LeftOut]:
    reasons: dict[str, Counter[str]] = {}
    offered = Counter(atlas.id for view in done for atlas in view.case.atlases)
    for view in done:
        for atlas in view.left_out_atlases:
            reasons.setdefault(atlas.id, Counter())[atlas.rejected] += 1
    for name, counted in sorted(reasons.items(), key=lambda item: (-item[1].total(), item[0])):
        common = counted.most_common(REASONS_SHOWN)
        words = tuple((reason, text.count(n, "case") if len(counted) > 1 else "") for reason, n in common)
        cases = f"{counted.total()} of {text.count(offered[name], 'case')}"
        yield LeftOut(name, cases, words, len(counted) - len(common))


def _predictions(report: Report, done: Sequence[CaseView]) -> Iterable[Cloud]:
    places = {view.case.id: view.anchor for view in done}
    yield from _calibration(report, places)
    cases = [
        Checked(view.case.predicted_dice, view.dice, view.case.id, view.anchor)
        for view in done
        if view.case.predicted_dice is not None and view.dice is not None and text.known(view.case.predicted_dice)
    ]
    if cases:
        words = f"Cases of this run, against their true labels: {errors(cases, 'case')}"
        yield against(cases, words, (("dot", "a case"), ("identity", "perfect prediction")))


def _calibration(report: Report, places: Mapping[str, str]) -> Iterable[Cloud]:
    points = [
        Checked(p.predicted, p.measured, f"{p.case}, {text.words(p.rule)}", places.get(p.case, ""), p.planted)
        for p in report.calibration
        if text.known(p.predicted) and text.known(p.measured)
    ]
    if not points:
        return
    sound, planted = [p for p in points if not p.planted], [p for p in points if p.planted]
    said = [errors(sound, "prediction")] if sound else []
    said += [f"with evidence spoilt on purpose, {errors(planted, 'prediction')}"] if planted else []
    key = (("dot", "an atlas and a rule"), *((("cross", "spoilt on purpose"),) if planted else ()))
    words = f"Atlases, each segmented from the others: {'; '.join(said)}"
    yield against(points, words, (*key, ("identity", "perfect prediction")))


def _atlas_curve(points: Sequence[CurvePoint]) -> Iterable[Cloud]:
    reached = [Reached(p.atlases, p.mean, *_interval(p)) for p in points if text.known(p.mean)]
    if reached:
        words = f"Dice against the number of atlases: {ends(reached, '{0.value:.3f} with {0.at:g}')}"
        words += ". Bars are 95 % intervals" if any(p.low is not None for p in reached) else ""
        yield curve(reached, words, "atlases", "Dice")


def _interval(point: CurvePoint) -> tuple[float | None, float | None]:
    return (point.low, point.high) if text.known(point.low) and text.known(point.high) else (None, None)


def _learning(points: Sequence[LearningPoint]) -> Iterable[Cloud]:
    losses = [Reached(p.step, p.loss) for p in points if text.known(p.loss)]
    checks = [Reached(p.step, p.validation) for p in points if p.validation is not None and text.known(p.validation)]
    for reached, what, name in (
        (losses, "Training of the data parameters: loss", "loss"),
        (checks, "Validation during training:", "validation"),
    ):
        if reached:
            yield curve(reached, f"{what} {ends(reached, '{0.value:.4g} at step {0.at:g}')}", "step", name)


def _divergence(points: Sequence[LearningPoint]) -> str:
    lost = [point.step for point in points if not text.known(point.loss)]
    if not lost:
        return ""
    steps = text.count(len(lost), "step")
    return f"Training of the data parameters diverged: its loss was not a number at {steps}, first at step {lost[0]}."
