"""One self-contained HTML page from a Report."""

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from covoxel.report import text
from covoxel.report.gaps import Gap, Guard
from covoxel.report.model import Report
from covoxel.report.page import page_of
from covoxel.report.palette import label_colour


def render(report: Report, *, figure_budget_bytes: int = 28_000_000, guard: Guard | None = None) -> str:
    """HTML of `report`, with nothing outside it: figures are data URIs, there is no script and no network.

    Parameters
    ----------
    report
        What to show.
    figure_budget_bytes
        Figures are embedded, worst cases first, until their encoded size reaches this; the page says what it left out.
    guard
        Learns what could not be drawn: a plot or picture that fails is a sentence on the page. If the page as a whole
        fails, it is the table of cases alone.

    Returns
    -------
    str
        The page. Equal reports give equal pages. Every text is escaped, and absolute paths are cut to their end.
    """
    guard = guard or Guard()
    page = guard.one("The page", lambda: _template("template").render(page=page_of(report, figure_budget_bytes, guard)))
    return _template("bare").render(report=report, gap=page) if isinstance(page, Gap) else page


def _template(name: str) -> Template:
    return environment().get_template(f"{name}.html.j2")


@lru_cache
def environment() -> Environment:
    """What all pages are written with: every text is escaped, and nothing may be missing."""
    made = Environment(
        loader=PackageLoader("covoxel.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=text.number,
        significant=text.significant,
        short_paths=text.short_paths,
        words=text.words,
        label_colour=label_colour,
    )
    made.globals.update(count=text.count)
    made.tests["gap"] = lambda value: isinstance(value, Gap)
    return made
