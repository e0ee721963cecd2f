"""The page of a longitudinal study: every subject's volumes over time, rates, floors, models, maps of change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment

from covoxel.report import text
from covoxel.report.gaps import Gap, Guard
from covoxel.report.html import environment
from covoxel.report.pictures import Picture, pictures_of
from covoxel.report.plots import Axis, Cloud, Dot, Line, ticks_up

MAP_KEY = "change"
ROWS_SHOWN = 60


@dataclass(frozen=True)
class Trace:
    """Volumes of a structure of one subject: pairs of years and percent of the first, by date."""

    subject: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class StructureChange:
    """A structure as the page shows it.

    Parameters
    ----------
    name
        Of the structure.
    traces
        A subject each.
    rates
        Rows of `rates.tsv`, as text in the order of the heading.
    models
        Rows of `model.tsv`, likewise.
    floor
        A sentence about the least change that is more than scatter.
    """

    name: str
    traces: tuple[Trace, ...] = ()
    rates: tuple[tuple[str, ...], ...] = ()
    models: tuple[tuple[str, ...], ...] = ()
    floor: str = ""


@dataclass(frozen=True)
class LongitudinalReport:
    """Everything the page shows; all text is escaped.

    Parameters
    ----------
    title, cohort
        Heading, and name of the cohort.
    structures
        In the order they are shown.
    rate_columns, model_columns
        Headings of the tables.
    maps
        Picture of each subject's change (WebP), by subject.
    problems
        Cases without a result, and why.
    notes
        Sentences under the heading.
    """

    title: str
    cohort: str = ""
    structures: tuple[StructureChange, ...] = ()
    rate_columns: tuple[str, ...] = ()
    model_columns: tuple[str, ...] = ()
    maps: Mapping[str, bytes] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Section:
    change: StructureChange
    cloud: Cloud | Gap | None
    rates: tuple[tuple[str, ...], ...]
    more: int


def render_longitudinal(report: LongitudinalReport, guard: Guard | None = None) -> str:
    """HTML of `report`, with nothing outside it; equal reports give equal pages.

    What cannot be drawn is a sentence on the page, and `guard` learns of it.
    """
    guard = guard or Guard()
    sections = tuple(_section(change, guard) for change in report.structures)
    page: Environment = environment()
    maps = tuple((name, picture) for name, data in report.maps.items() for picture in _picture(name, data, guard))
    return page.get_template("longitudinal.html.j2").render(report=report, sections=sections, maps=maps)


def _section(change: StructureChange, guard: Guard) -> _Section:
    cloud = guard.one(f"The plot of {change.name}", lambda: spaghetti(change))
    return _Section(change, cloud, change.rates[:ROWS_SHOWN], max(0, len(change.rates) - ROWS_SHOWN))


def spaghetti(change: StructureChange) -> Cloud | None:
    """A line a subject: years across, percent of the first volume up; None where nobody was seen at two times."""
    traces = [trace for trace in change.traces if len({years for years, _ in trace.points}) > 1]
    if not traces:
        return None
    x_axis = Axis.around([years for trace in traces for years, _ in trace.points], least=0.0)
    y_axis = Axis.around([percent for trace in traces for _, percent in trace.points])
    return Cloud(
        dots=tuple(_dot(trace, at, x_axis, y_axis) for trace in traces for at in trace.points),
        x_ticks=tuple((x_axis.at(tick), f"{tick:g}") for tick in x_axis.ticks),
        y_ticks=ticks_up(y_axis),
        caption=f"{change.name}: {text.count(len(traces), 'subject')} seen at two times or more",
        lines=tuple(line for trace in traces for line in _lines(trace, x_axis, y_axis)),
        x_name="years since the first visit",
        y_name="volume, percent of the first",
        tall=True,
    )


def _dot(trace: Trace, at: tuple[float, float], x_axis: Axis, y_axis: Axis) -> Dot:
    years, percent = at
    return Dot(
        x_axis.at(years), round(100 - y_axis.at(percent), 2), f"{trace.subject}: {percent:.2f} % at {years:.2f}", ""
    )


def _lines(trace: Trace, x_axis: Axis, y_axis: Axis) -> Sequence[Line]:
    places = [(x_axis.at(years), round(100 - y_axis.at(percent), 2)) for years, percent in trace.points]
    return [Line(*a, *b, "joined thin") for a, b in zip(places, places[1:], strict=False)]


def _picture(name: str, data: bytes, guard: Guard) -> tuple[Picture | Gap, ...]:
    return pictures_of({MAP_KEY: data}, name, guard)
