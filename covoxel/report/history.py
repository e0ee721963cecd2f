"""The history of a template as a figure: how alike the cases became, how far they move, how much it still changes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PANELS = (
    ("similarity", "correlation with the template", "#1f62a8"),
    ("displacement_mm", "displacement, mm (RMS)", "#2a9d6f"),
    ("drift_mm", "mean displacement, mm (RMS)", "#e8a000"),
    ("ndv_percent", "non-diffeomorphic volume, %", "#d8453f"),
    ("change", "change, of its SD", "#8a63c9"),
)


def history_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG with a panel a measure.

    Parameters
    ----------
    rows
        One a step, with `number`, `kind` and the measures; a value that is None or NaN is not drawn. The displacement
        taken out of the mid-space of affine steps is in the table alone: it is that of the provisional reference.
    """
    figure = Figure(figsize=(12, 2.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, title, colour) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        shown = [row for row in rows if _is_shown(row, key)]
        axes.plot([row["number"] for row in shown], [row[key] for row in shown], "o-", color=colour, ms=4, lw=1.5)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _is_shown(row: Mapping[str, Any], key: str) -> bool:
    value = row[key]
    known = value is not None and value == value
    return known and (row["kind"] == "deform" or key in ("similarity", "change"))
