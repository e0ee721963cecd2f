"""Geometry of the plots of a cohort: positions in percent, so that the page draws them at any width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from covoxel.metrics.summary import summarise

DOTS_AT_MOST = 20_000
LARGEST = 1e100


@dataclass(frozen=True)
class Point:
    """One case's value, what it is called, and the anchor of its case on the page."""

    value: float
    name: str
    anchor: str


@dataclass(frozen=True)
class Dot:
    """A point on a plot: from the left and from the top, percent."""

    x: float
    y: float
    title: str
    anchor: str


@dataclass(frozen=True)
class Axis:
    """Range of an axis and its round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], *, most: float | None = None, least: float | None = None) -> "Axis":
        """Axis over `values` with two to six round ticks; `least` and `most` are bounds that are never passed.

        Values that are not finite are left out; values beyond ±1e100 lie at the end of the axis. Its ends are never
        the same.
        """
        top = LARGEST if most is None else most
        known = [min(max(value, -LARGEST), top) for value in values if math.isfinite(value)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        high = high if most is None else most
        if high - low < max(1e-12, 1e-9 * abs(low)):
            low, high = low - _reach(low), high + (0 if most is not None else _reach(high))
        step = _round_step((high - low) / 4)
        low = math.floor(low / step + 1e-9) * step
        high = math.ceil(high / step - 1e-9) * step
        low, high = (low, high) if least is None else (max(low, least), max(high, least))
        high = high if high > low else low + step
        return cls(low, high, tuple(float(t) for t in np.round(np.arange(low, high + step / 2, step), _digits(step))))

    def at(self, value: float) -> float:
        """Position of `value`, percent of the axis, with room for half a dot at both ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(1.5 + 97 * min(max(share, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Strip:
    """One row of a strip plot: a dot a case, marks for mean (or median) and 5th percentile, numbers beside it."""

    name: str
    colour: str
    dots: tuple[Dot, ...]
    lowest: Dot | None
    middle: float
    p5: float
    numbers: tuple[tuple[str, str], ...]
    ticks: tuple[tuple[float, str], ...]


def strip(
    name: str,
    colour: str,
    points: Sequence[Point],
    axis: Axis,
    numbers: tuple[tuple[str, str], ...],
    write: Callable[[float], str],
    *,
    median: bool = False,
    worst_is_high: bool = False,
    unit: str = "",
) -> Strip:
    """One row.

    Parameters
    ----------
    name, colour
        Of the structure.
    points
        One a case, finite values.
    axis
        Shared by rows that are compared.
    numbers
        Heading and text of each number beside the row.
    write
        Turns a value into text.
    median
        Mark the median instead of the mean.
    worst_is_high
        The worst case is the highest, and the mark of the tail is the 95th percentile.
    unit
        Written after each tick.
    """
    summary = summarise(point.value for point in points)
    dots = tuple(
        Dot(axis.at(p.value), round(22 + 56 * (i * 0.618034 % 1), 1), f"{p.name}: {write(p.value)}", p.anchor)
        for i, p in enumerate(points)
    )
    worst = (max if worst_is_high else min)(range(len(points)), key=lambda i: points[i].value, default=None)
    return Strip(
        name=name,
        colour=colour,
        dots=dots if len(dots) <= DOTS_AT_MOST else (),
        lowest=None if worst is None else dots[worst],
        middle=axis.at(summary.median if median else summary.mean) if points else 0.0,
        p5=axis.at(summary.p95 if worst_is_high else summary.p5) if points else 0.0,
        numbers=numbers,
        ticks=tuple((axis.at(tick), f"{tick:g}{unit}") for tick in axis.ticks),
    )


@dataclass(frozen=True)
class Line:
    """A straight line on a plot: from and to, percent from the left and from the top."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Cloud:
    """A plot of dots over two axes; ticks are a position and its text, crosses are dots of a second kind."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    caption: str
    lines: tuple[Line, ...] = ()
    crosses: tuple[Dot, ...] = ()
    x_name: str = ""
    y_name: str = ""
    key: tuple[tuple[str, str], ...] = ()
    tall: bool = False

    @property
    def linked(self) -> bool:
        """Whether its dots lead to their cases."""
        return any(dot.anchor for dot in self.dots)


def ranked(points: Sequence[Point], caption: str) -> Cloud:
    """Cases from the worst to the best."""
    axis = Axis.around([point.value for point in points], most=1.0)
    order = sorted(points, key=lambda point: (point.value, point.name))
    across = Axis(0, max(len(order) - 1, 1), ())
    dots = tuple(
        Dot(across.at(i), round(100 - axis.at(p.value), 2), f"{p.name}: {p.value:.3f}", p.anchor)
        for i, p in enumerate(order)
    )
    return Cloud(dots, (), ticks_up(axis), caption)


def scatter(pairs: Sequence[tuple[Point, Point]], caption: str) -> Cloud:
    """The first value of each pair across, the second up."""
    x_axis = Axis.around([x.value for x, _ in pairs], most=1.0)
    y_axis = Axis.around([y.value for _, y in pairs], most=1.0)
    dots = tuple(
        Dot(x_axis.at(x.value), round(100 - y_axis.at(y.value), 2), f"{x.name}: {x.value:.3f}, {y.value:.3f}", x.anchor)
        for x, y in pairs
    )
    return Cloud(dots, tuple((x_axis.at(tick), f"{tick:g}") for tick in x_axis.ticks), ticks_up(y_axis), caption)


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where one side is constant."""
    ranks = [_ranks(np.asarray(side)) for side in zip(*pairs, strict=True)]
    if min(float(np.ptp(rank)) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def ticks_up(axis: Axis) -> tuple[tuple[float, str], ...]:
    """Ticks of an upright axis."""
    return tuple((round(100 - axis.at(tick), 2), f"{tick:g}") for tick in axis.ticks)


def _ranks(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> list[float]:
    return [float((values < v).sum() + ((values == v).sum() + 1) / 2) for v in values]


def _reach(value: float) -> float:
    """How far an axis goes beyond a lone value."""
    return 0.1 * abs(value) if abs(value) > 1e-9 else 0.5


def _digits(step: float) -> int:
    """Decimals that ticks need; ten, unless they lie closer together or far apart."""
    return min(15, max(10, 2 - math.floor(math.log10(step)))) if step < 1e90 else 0


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.9999)
