"""What every atlas is worth to every case, as a table of shades: the worst case on top, the worst atlas on the left."""

from collections.abc import Sequence
from dataclasses import dataclass

from covoxel.metrics.summary import summarise
from covoxel.report import text
from covoxel.report.fusion_model import AtlasRow
from covoxel.report.plots import Axis
from covoxel.report.views import CaseView

LEVELS = 10
NUMBERS_ON_PHONES, NUMBERS_AT_ALL = 10, 32


@dataclass(frozen=True)
class Cell:
    """Level of its shade, 0 (lowest) to 9, None for no shade; and what is written."""

    level: int | None
    words: str
    rejected: bool = False


@dataclass(frozen=True)
class Row:
    """A case: its name in short and in full, its anchor, a cell an atlas."""

    short: str
    name: str
    anchor: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class HeatMap:
    """Cases by atlases.

    Parameters
    ----------
    what
        "Trust" or "Agreement".
    columns
        Name of each atlas in short and in full.
    mean
        Mean over the cases an atlas took part in.
    rows
        One a case, in the page's order.
    low, high
        Values at the ends of the shades.
    shared
        What all names of cases and of atlases start with, which the short names leave out.
    density
        "" where numbers are always written, "many" where not on phones, "dense" where nowhere.
    caption
        The table in a sentence.
    rejected, absent
        Whether an atlas was left out somewhere, and whether one was not offered somewhere.
    """

    what: str
    columns: tuple[tuple[str, str], ...]
    mean: tuple[Cell, ...]
    rows: tuple[Row, ...]
    low: str
    high: str
    shared: tuple[str, ...]
    density: str
    caption: str
    rejected: bool
    absent: bool


def heat_map(views: Sequence[CaseView]) -> HeatMap | None:
    """Shades of the learned trust in each atlas, or of its agreement where no trust was learned; None without either.

    Atlases run from the lowest mean to the highest. An atlas that was left out of a case is marked there, has no
    shade, and does not count in its mean; one that was not offered to a case leaves its cell empty.
    """
    views = [view for view in views if view.case.atlases]
    field = _field(views)
    if not views or not field:
        return None
    table = [{atlas.id: atlas for atlas in view.case.atlases} for view in views]
    means = _means(table, field)
    order = sorted(means, key=lambda atlas: (means[atlas] is not None, means[atlas] or 0.0, atlas))
    axis = Axis.around(
        [value for row in table for atlas in row.values() if (value := _value(atlas, field)) is not None]
    )
    shared_atlases, short_atlas = text.without_shared_start(order)
    shared_cases, short_case = text.without_shared_start([view.case.id for view in views])
    rows = tuple(
        Row(short_case[v.case.id], v.case.id, v.anchor, tuple(_cell(row.get(atlas), field, axis) for atlas in order))
        for v, row in zip(views, table, strict=True)
    )
    return HeatMap(
        what=field.capitalize(),
        columns=tuple((short_atlas[atlas], atlas) for atlas in order),
        mean=tuple(shade(means[atlas], axis) for atlas in order),
        rows=rows,
        low=f"{axis.low:g}",
        high=f"{axis.high:g}",
        shared=tuple(dict.fromkeys(part for part in (shared_cases, shared_atlases) if part)),
        density=_density(len(order)),
        caption=f"{field.capitalize()} of {text.count(len(order), 'atlas')} in {text.count(len(rows), 'case')}",
        rejected=any(cell.rejected for row in rows for cell in row.cells),
        absent=any(len(row) < len(order) for row in table),
    )


def _field(views: Sequence[CaseView]) -> str:
    atlases = [atlas for view in views for atlas in view.case.atlases if not atlas.rejected]
    return next((f for f in ("trust", "agreement") if any(_value(atlas, f) is not None for atlas in atlases)), "")


def _value(atlas: AtlasRow, field: str) -> float | None:
    value: float | None = getattr(atlas, field)
    return value if text.known(value) and not atlas.rejected else None


def _means(table: Sequence[dict[str, AtlasRow]], field: str) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for atlas in dict.fromkeys(name for row in table for name in row):
        values = [_value(row[atlas], field) for row in table if atlas in row]
        summary = summarise(value for value in values if value is not None)
        means[atlas] = summary.mean if summary.n else None
    return means


def _cell(atlas: AtlasRow | None, field: str, axis: Axis) -> Cell:
    if atlas is None:
        return Cell(None, "")
    return Cell(None, "×", True) if atlas.rejected else shade(_value(atlas, field), axis)


def shade(value: float | None, axis: Axis) -> Cell:
    """Shade and words of a value on the range of an axis."""
    if value is None or not text.known(value):
        return Cell(None, text.MISSING)
    unit = (value - axis.low) / (axis.high - axis.low)
    level = int(min(max(unit * LEVELS, 0), LEVELS - 1))
    return Cell(level, f"{value:.2f}".replace("0.", ".", 1))


def _density(atlases: int) -> str:
    if atlases > NUMBERS_AT_ALL:
        return "dense"
    return "many" if atlases > NUMBERS_ON_PHONES else ""
