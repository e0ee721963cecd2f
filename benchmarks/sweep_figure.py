"""The sweep's figure: mean Dice against number of labels, a line a method, a point a draw."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.sweep_plan import METHODS
from benchmarks.sweep_scores import dice_of
from benchmarks.sweep_table import Result
from covoxel.io.atomic import atomic_path

_COLOURS = dict(zip(METHODS, ("#777777", "#1f62a8", "#e8a000", "#d8453f", "#2a9d6f", "#8a63c9"), strict=True))
_SIDE_BY_SIDE = 0.02
"""Between the points of two methods, as a part of the number of labels."""


def draw_figure(results: Sequence[Result], path: Path) -> None:
    """Write the figure; its type is that of the file, `.png` or `.svg`."""
    figure = Figure(figsize=(7.5, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    methods = [method for method in METHODS if any(result.method == method for result in results)]
    for place, method in enumerate(methods):
        found = points_of(results, method)
        beside = 1 + _SIDE_BY_SIDE * (place - (len(methods) - 1) / 2)
        at = [beside * labels for labels, values in found.items() for _ in values]
        axes.plot(at, [v for values in found.values() for v in values], "o", ms=4, alpha=0.5, color=_COLOURS[method])
        means = [sum(values) / len(values) for values in found.values()]
        axes.plot([beside * labels for labels in found], means, "-", lw=1.8, color=_COLOURS[method], label=method)
    labels = sorted({result.draw.labels for result in results})
    axes.set_xscale("log")
    axes.set_xticks(labels, [str(number) for number in labels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("labelled cases")
    axes.set_ylabel("Dice, mean over cases and structures")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary, rc_context({"svg.hashsalt": "covoxel"}):
        figure.savefig(temporary, format=path.suffix.removeprefix("."), metadata=_without_date(path))


def points_of(results: Sequence[Result], method: str) -> dict[int, list[float]]:
    """Mean Dice of each draw of a method, by number of labels."""
    found: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda r: (r.draw.labels, r.draw.number)):
        if result.method == method:
            found.setdefault(result.draw.labels, []).append(float(dice_of(result.scores).mean()))
    return found


def _without_date(path: Path) -> dict[str, None] | None:
    """The same results are to give the same file."""
    return {"Date": None} if path.suffix == ".svg" else None
