"""Geometry of two plots: a prediction against what came true, and a figure that changes along an axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covoxel.report import text
from covoxel.report.plots import Axis, Cloud, Dot, Line, ticks_up

POINTS_AT_MOST, DOTTED_AT_MOST = 150, 40


@dataclass(frozen=True)
class Checked:
    """A prediction and what came true, both finite; its name, its anchor if it has a place on the page."""

    predicted: float
    measured: float
    name: str
    anchor: str = ""
    planted: bool = False

    @property
    def error(self) -> float:
        """Predicted minus measured."""
        return self.predicted - self.measured


@dataclass(frozen=True)
class Reached:
    """A figure at a place of an axis, finite, and the ends of its interval where there is one."""

    at: float
    value: float
    low: float | None = None
    high: float | None = None


def against(checked: Sequence[Checked], caption: str, key: tuple[tuple[str, str], ...]) -> Cloud:
    """Predicted across, measured up, one scale for both, the line of perfect prediction, planted ones as crosses."""
    axis = Axis.around([value for point in checked for value in (point.predicted, point.measured)])

    def dot(point: Checked) -> Dot:
        title = f"{point.name}: predicted {point.predicted:.3f}, measured {point.measured:.3f}"
        return Dot(axis.at(point.predicted), round(100 - axis.at(point.measured), 2), title, point.anchor)

    low, high = axis.at(axis.low), axis.at(axis.high)
    return Cloud(
        dots=tuple(dot(point) for point in checked if not point.planted),
        crosses=tuple(dot(point) for point in checked if point.planted),
        x_ticks=tuple((axis.at(tick), f"{tick:g}") for tick in axis.ticks),
        y_ticks=ticks_up(axis),
        caption=caption,
        lines=(Line(low, 100 - low, high, 100 - high, "identity"),),
        x_name="predicted Dice",
        y_name="measured",
        key=key,
        tall=True,
    )


def errors(checked: Sequence[Checked], noun: str) -> str:
    """The mean absolute error and the mean error in words."""
    off = np.asarray([point.error for point in checked])
    lean = float(off.mean())
    way = "neither too high nor too low" if abs(lean) < 5e-4 else f"{abs(lean):.3f} too {'high' if lean > 0 else 'low'}"
    return f"mean absolute error {np.abs(off).mean():.3f} over {text.count(len(checked), noun)}, on average {way}"


def curve(points: Sequence[Reached], caption: str, x_name: str, y_name: str) -> Cloud:
    """Points joined in the order of their place, each with its interval; many are thinned to means of neighbours."""
    points = thinned(sorted(points, key=lambda point: point.at))
    reached = [end for p in points for end in (p.value, p.low, p.high) if end is not None]
    x_axis, y_axis = Axis.around([p.at for p in points]), Axis.around(reached)

    def up(value: float) -> float:
        return round(100 - y_axis.at(value), 2)

    joined = [
        Line(x_axis.at(a.at), up(a.value), x_axis.at(b.at), up(b.value), "joined")
        for a, b in zip(points, points[1:], strict=False)
    ]
    spans = [
        Line(x_axis.at(p.at), up(p.low), x_axis.at(p.at), up(p.high), "span")
        for p in points
        if p.low is not None and p.high is not None
    ]
    dotted = points if len(points) <= DOTTED_AT_MOST else ()
    return Cloud(
        dots=tuple(Dot(x_axis.at(p.at), up(p.value), f"{p.at:g}: {p.value:.4g}", "") for p in dotted),
        x_ticks=tuple((x_axis.at(tick), f"{tick:g}") for tick in x_axis.ticks if tick == round(tick)),
        y_ticks=ticks_up(y_axis),
        caption=caption,
        lines=(*spans, *joined),
        x_name=x_name,
        y_name=y_name,
    )


def ends(points: Sequence[Reached], form: str) -> str:
    """The first and the last point of a curve in words: `form` of each, such as "{0.value:.3f} at {0.at:g}"."""
    order = sorted(points, key=lambda point: point.at)
    return ", ".join(form.format(point) for point in dict.fromkeys((order[0], order[-1])))


def thinned(points: Sequence[Reached]) -> Sequence[Reached]:
    """`points`, or where there are more than 150, the mean place and mean value of each of 150 groups of neighbours."""
    if len(points) <= POINTS_AT_MOST:
        return points
    groups = np.array_split(np.asarray([(p.at, p.value) for p in points]), POINTS_AT_MOST)
    return [Reached(float(group[:, 0].mean()), float(group[:, 1].mean())) for group in groups]
