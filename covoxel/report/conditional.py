"""Figures of a conditional template: what it looks like at each value, and how the volumes of structures follow."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from covoxel.report.figures import window_of
from covoxel.report.palette import label_colour
from covoxel.report.planes import Array, Frame, Plane, choose_planes
from covoxel.spatial import Image

_MOST = 12


@dataclass(frozen=True)
class VolumePlot:
    """Volumes of one structure against one number, or over the levels of a category.

    Parameters
    ----------
    label, title
        Of the structure.
    covariate
        Its name.
    cases
        Value and volume, mm³, of each case.
    line
        Value and volume of the template at values in their order.
    """

    label: int
    title: str
    covariate: str
    cases: Sequence[tuple[float | str, float]]
    line: Sequence[tuple[float | str, float]]


def templates_figure(templates: Mapping[str, tuple[Image, Image | None]]) -> bytes:
    """PNG with a column a template, one plane each, outlines of the likeliest labels upon it.

    Parameters
    ----------
    templates
        Image and label map by name, all on one grid; the first twelve are drawn.
    """
    shown = list(templates.items())[:_MOST]
    first, labels = shown[0][1]
    frame = Frame.of(first.grid)
    arrays = [frame.view(image.data.numpy()) for _, (image, _) in shown]
    plane = choose_planes(arrays[0], None if labels is None else frame.view(labels.data.numpy()), frame.spacing_mm)[-1]
    low, high = window_of(np.stack(arrays))
    across, down = (frame.spacing_mm[axis] for axis in plane.in_plane)
    figure = Figure(figsize=(2.4 * len(shown), 2.9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, (_, label_map)), array in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown, arrays, strict=True
    ):
        piece = plane.cut(array)
        axes.imshow(piece, cmap="gray", vmin=low, vmax=high, interpolation="bilinear", aspect=down / across)
        if label_map is not None:
            _outline(axes, plane, frame.view(label_map.data.numpy()))
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    return _png(figure)


def volumes_figure(plots: Sequence[VolumePlot]) -> bytes:
    """PNG with a panel a structure and covariate: a dot a case, and the volume of the template as a line."""
    columns = min(4, max(1, len(plots)))
    rows = -(-max(1, len(plots)) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, plot in zip(panels, plots, strict=False):
        colour = label_colour(plot.label)
        levels = {value: place for place, (value, _) in enumerate(plot.line) if isinstance(value, str)}
        axes.plot(*_places(plot.cases, levels), ".", color="#8a94a3", ms=4)
        axes.plot(*_places(plot.line, levels), "o-" if levels else "-", color=colour, lw=2)
        if levels:
            axes.set_xticks(list(levels.values()), list(levels))
        axes.set_title(plot.title, fontsize=10)
        axes.set_xlabel(plot.covariate, fontsize=9)
        axes.set_ylabel("volume", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in panels[len(plots) :]:
        axes.set_axis_off()
    return _png(figure)


def _places(pairs: Sequence[tuple[float | str, float]], levels: Mapping[str, int]) -> tuple[list[float], list[float]]:
    places = [float(levels[value]) if isinstance(value, str) else value for value, _ in pairs]
    return places, [volume for _, volume in pairs]


def _outline(axes: Axes, plane: Plane, label_map: Array) -> None:
    piece = plane.cut(label_map)
    for label in np.unique(piece[piece != 0]):
        axes.contour(piece == label, levels=[0.5], colors=[label_colour(int(label))], linewidths=1.2)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
