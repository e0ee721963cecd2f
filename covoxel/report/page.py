"""What the page says, worked out of a Report: order of the cases, headline numbers, plots."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from covoxel.metrics.summary import Summary, summarise
from covoxel.report import plots, text
from covoxel.report.fusion_page import FusionView, fusion_components, fusion_of
from covoxel.report.gaps import Gap, Guard
from covoxel.report.joint_page import JointView, joint_components, joint_of
from covoxel.report.methods import describe
from covoxel.report.model import Report
from covoxel.report.palette import label_colour
from covoxel.report.plots import Axis, Cloud, Point, Strip, strip
from covoxel.report.references import Reference
from covoxel.report.views import CaseView, views_of

LOWEST = 6
ACCENT = "var(--accent)"


@dataclass(frozen=True)
class Card:
    """A headline number, what it is, and what to read it with."""

    name: str
    value: str
    beside: tuple[str, ...]
    alarm: bool = False


@dataclass(frozen=True)
class StageView:
    """A stage: its time, as words and as percent of the longest, and what it did."""

    name: str
    time: str
    share: float
    work: str


@dataclass(frozen=True)
class Page:
    """Everything the template needs."""

    report: Report
    cards: tuple[Card | Gap, ...]
    problems: tuple[CaseView, ...]
    lowest: tuple[CaseView, ...]
    flagged: tuple[CaseView, ...]
    cases: tuple[CaseView, ...]
    dice: tuple[Strip | Gap, ...]
    volumes: tuple[Strip | Gap, ...]
    transforms: tuple[Strip | Gap, ...]
    clouds: tuple[Cloud | Gap, ...]
    fusion: FusionView | Gap | None
    joint: JointView | Gap | None
    stages: tuple[StageView | Gap, ...]
    methods: str
    references: tuple[Reference, ...]
    settings: tuple[tuple[str, str], ...]
    score_name: str


def page_of(report: Report, figure_budget_bytes: int, guard: Guard) -> Page:
    """The page of a report; figures are embedded, worst cases first, within the budget.

    Each plot and section is drawn behind `guard`: one that fails is a gap on the page.
    """
    cases = views_of(report.cases, figure_budget_bytes, guard)
    done = [view for view in cases if not view.problem]
    scored = [view for view in done if view.score is not None]
    measured = any(view.dice is not None for view in done)
    found = (*fusion_components(report), *joint_components(report))
    components = (*report.components, *found, *(("dice",) if measured else ()))
    described = guard.one("The methods", lambda: describe(components))
    methods, references = (described.sentence, ()) if isinstance(described, Gap) else described
    return Page(
        report=report,
        cards=guard.many("Headline numbers", lambda: _cards(report, cases)),
        problems=tuple(view for view in cases if view.problem),
        lowest=tuple(scored[:LOWEST]) if len(scored) > LOWEST else (),
        flagged=tuple(view for view in done if view.case.flags),
        cases=cases,
        dice=guard.many("The Dice of structures", lambda: _dice(done)),
        volumes=_volumes(done, guard),
        transforms=_transforms(done, guard),
        clouds=guard.many("A plot of all cases", lambda: _clouds(scored)),
        fusion=guard.one("The section on label fusion", lambda: fusion_of(report, done, guard)),
        joint=guard.one("The section on networks", lambda: joint_of(report, done, guard)),
        stages=guard.many("The times of stages", lambda: _stages(report)),
        methods=methods,
        references=references,
        settings=tuple(text.flatten(report.settings)),
        score_name=scored[0].score_name if scored else "",
    )


def _cards(report: Report, cases: Sequence[CaseView]) -> Iterable[Card]:
    problems = [view for view in cases if view.problem]
    kinds = dict.fromkeys(view.case.status for view in problems)
    words = [f"{sum(view.case.status == kind for view in problems)} {kind}" for kind in kinds]
    words = words or ["none failed or set aside"]
    yield Card("Cases done", f"{len(cases) - len(problems)} of {len(cases)}", tuple(words), bool(problems))
    done = [view for view in cases if not view.problem]
    yield from _quality_card("Dice", summarise(v.dice for v in done if v.dice is not None))
    predicted = (v.case.predicted_dice for v in done)
    yield from _quality_card("Predicted Dice", summarise(value for value in predicted if value is not None))
    yield from _quality_card("Confidence", summarise(v.confidence for v in done if v.confidence is not None))
    folds = summarise(v.case.folded_percent for v in done if v.case.folded_percent is not None)
    if folds.n:
        yield Card("Folded voxels", text.percent(folds.mean), ("mean", f"worst {text.percent(folds.maximum)}"))
    if report.stages:
        seconds = sum(stage.seconds for stage in report.stages)
        beside = [f"{text.duration(seconds / len(done))} a case"] if done else []
        yield Card("Time", text.duration(seconds), (*beside, *([report.device] if report.device else [])))


def _quality_card(name: str, summary: Summary) -> Iterable[Card]:
    if summary.n:
        tail = (f"p5 {summary.p5:.3f}", f"min {summary.minimum:.3f}", f"n\u00a0{summary.n}")
        yield Card(f"{name}, mean", text.number(summary.mean), tail)


def _structures(done: Sequence[CaseView]) -> dict[int, str]:
    names: dict[int, str] = {}
    for view in done:
        for row in view.case.rows:
            if row.structure or row.label not in names:
                names[row.label] = row.name
    return dict(sorted(names.items()))


def _points(done: Sequence[CaseView], label: int, field: str) -> list[Point]:
    return [
        Point(float(value), view.case.id, view.anchor)
        for view in done
        for row in view.case.rows
        if row.label == label and text.known(value := getattr(row, field))
    ]


def _dice(done: Sequence[CaseView]) -> Iterable[Strip]:
    rows = {label: _points(done, label, "dice") for label in _structures(done)}
    axis = Axis.around([p.value for points in rows.values() for p in points], most=1.0, least=0.0)
    names = _structures(done)
    for label, points in rows.items():
        if points:
            yield strip(names[label], label_colour(label), points, axis, _quality_numbers(points), text.number)


def _quality_numbers(points: Sequence[Point]) -> tuple[tuple[str, str], ...]:
    summary = summarise(point.value for point in points)
    return (
        ("mean", text.number(summary.mean)),
        ("p5", text.number(summary.p5)),
        ("min", text.number(summary.minimum)),
        ("n", str(summary.n)),
    )


def _volumes(done: Sequence[CaseView], guard: Guard) -> tuple[Strip | Gap, ...]:
    points = {label: _points(done, label, "volume_ml") for label in _structures(done)}
    return tuple(
        guard.one(f"The volumes of {name}", partial(_volume, name, label, points[label]))
        for label, name in _structures(done).items()
        if points[label]
    )


def _volume(name: str, label: int, points: Sequence[Point]) -> Strip:
    values = [point.value for point in points]
    summary = summarise(values)
    written = (("median", summary.median), ("p5", summary.p5), ("p95", summary.p95))
    numbers = (*((key, text.significant(value)) for key, value in written), ("n", str(summary.n)))
    axis = Axis.around(values, least=0.0)
    return strip(name, label_colour(label), points, axis, numbers, text.significant, median=True)


def _transforms(done: Sequence[CaseView], guard: Guard) -> tuple[Strip | Gap, ...]:
    rows = []
    for name, field, write in (
        ("Folded voxels", "folded_percent", text.percent),
        ("SD of log Jacobian", "sd_log_jacobian", text.number),
    ):
        known = [(v, getattr(v.case, field)) for v in done if text.known(getattr(v.case, field))]
        points = [Point(float(value), v.case.id, v.anchor) for v, value in known]
        if points:
            rows.append(guard.one(name, partial(_regularity, name, points, write)))
    return tuple(rows)


def _regularity(name: str, points: Sequence[Point], write: Callable[[float | None], str]) -> Strip:
    summary = summarise(point.value for point in points)
    written = (("mean", summary.mean), ("p95", summary.p95), ("max", summary.maximum))
    numbers = (*((key, write(value)) for key, value in written), ("n", str(summary.n)))
    axis = Axis.around([point.value for point in points], least=0.0)
    unit = " %" if write is text.percent else ""
    return strip(name, ACCENT, points, axis, numbers, write, worst_is_high=True, unit=unit)


def _clouds(scored: Sequence[CaseView]) -> Iterable[Cloud]:
    if len(scored) < 3:
        return
    name = scored[0].score_name
    same = [view.point for view in scored if view.score_name == name]
    yield plots.ranked(same, f"{name[0].upper()}{name[1:]} of every case, from the worst to the best")
    pairs = [(v.confidence, v.dice, v) for v in scored if v.confidence is not None and v.dice is not None]
    if len(pairs) >= 5:
        points = [(Point(c, v.case.id, v.anchor), Point(d, v.case.id, v.anchor)) for c, d, v in pairs]
        agreement = plots.spearman([(c, d) for c, d, _ in pairs])
        words = f"Spearman {text.number(agreement, 2)}, n\u00a0{len(pairs)}"
        yield plots.scatter(points, f"Confidence (across) against measured Dice (up): {words}")


def _stages(report: Report) -> tuple[StageView, ...]:
    longest = max((stage.seconds for stage in report.stages if text.known(stage.seconds)), default=0.0) or 1.0
    return tuple(
        StageView(
            stage.name,
            text.duration(stage.seconds),
            round(100 * (max(stage.seconds, 0.0) / longest), 1) if text.known(stage.seconds) else 0.0,
            ", ".join(f"{n} {word}" for n, word in ((stage.computed, "computed"), (stage.reused, "reused")) if n),
        )
        for stage in report.stages
    )
