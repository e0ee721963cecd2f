"""The five figures of a case, from numpy arrays in nearest-RAS order and the planes to draw."""

from collections.abc import Sequence

import numpy as np

from covoxel.report.canvas import ColourBar, Panel, Pixels, draw
from covoxel.report.palette import DOUBT, FOLDED, VOLUME_CHANGE, apply_map, label_colour, rgb
from covoxel.report.planes import Array, Plane

SQUARES = 9
LEAST_CONFIDENCE = 0.5
MOST_LOG_CHANGE = float(np.log(2.5))


def overlay(fixed: Array, label_map: Array, planes: Sequence[Plane]) -> bytes:
    """The case with its labels: a tint and a line just inside the border of each.

    Parameters
    ----------
    fixed
        `(*shape)` intensities.
    label_map
        `(*shape)` integers, 0 is background.
    planes
        Slices to draw, from `choose_planes`.

    Returns
    -------
    bytes
        WebP. Lines follow the border halfway between voxels of different labels.
    """
    low, high = window_of(fixed)

    def paint(panel: Panel) -> Pixels:
        return _outline(_grey(panel, fixed, low, high), panel, label_map, tint=0.16)

    return draw(planes, paint)


def checkerboard(fixed: Array, moved: Array, planes: Sequence[Plane]) -> bytes:
    """Squares of the case and of the moved image in turn: where they agree, edges run on across the squares.

    Parameters
    ----------
    fixed, moved
        `(*shape)` intensities on one grid; each has its own grey window.
    planes
        Slices to draw.
    """
    windows = window_of(fixed), window_of(moved)
    side_mm = max(max(plane.size_mm) for plane in planes) / SQUARES

    def paint(panel: Panel) -> Pixels:
        side = side_mm * panel.pixels_per_mm
        rows, columns = np.ogrid[: panel.height, : panel.width]
        odd = ((rows // side + columns // side) % 2 == 1)[..., None]
        ours, theirs = (_grey(panel, image, *window) for image, window in zip((fixed, moved), windows, strict=True))
        return np.asarray(np.where(odd, theirs * rgb("#fff1dc"), ours), dtype=np.float32)

    return draw(planes, paint)


def confidence_map(fixed: Array, confidence: Array, planes: Sequence[Plane]) -> bytes:
    """Where the segmentation is in doubt: nothing over a sure voxel, bright where the winner had half the votes.

    Parameters
    ----------
    fixed
        `(*shape)` intensities.
    confidence
        `(*shape)`, 0 to 1.
    planes
        Slices to draw.
    """
    low, high = window_of(fixed)

    def paint(panel: Panel) -> Pixels:
        sure = panel.enlarge(np.nan_to_num(panel.plane.cut(confidence)), smooth=False)
        doubt = np.clip((1 - sure) / (1 - LEAST_CONFIDENCE), 0, 1)
        grey = 0.75 * _grey(panel, fixed, low, high)
        alpha = np.clip(doubt * 6, 0, 0.9)[..., None]
        return np.asarray(grey * (1 - alpha) + apply_map(DOUBT, doubt) * alpha, dtype=np.float32)

    return draw(planes, paint, ColourBar(DOUBT[::-1], (f"confidence {LEAST_CONFIDENCE:g}", "", "1")))


def deformation_grid(fixed: Array, slabs: Sequence[Array], planes: Sequence[Plane], every_mm: float) -> bytes:
    """The straight grid of the moving image as it lands on the case.

    Parameters
    ----------
    fixed
        `(*shape)` intensities, drawn dark.
    slabs
        One a plane: displacement in voxels in its window, `(n, *window)`, three voxels thick along the cut axis.
    planes
        Slices to draw.
    every_mm
        Distance between the lines before the deformation.
    """
    low, high = window_of(fixed)
    colours = rgb("#35c5f0"), rgb("#ffb020")
    by_name = {plane.name: slab for plane, slab in zip(planes, slabs, strict=True)}

    def paint(panel: Panel) -> Pixels:
        pixels = 0.5 * _grey(panel, fixed, low, high)
        for colour, axis in zip(colours, panel.plane.in_plane, strict=True):
            where_mm = panel.enlarge(_mapped_mm(panel.plane, by_name[panel.plane.name], axis), smooth=False)
            line = _lines(where_mm, every_mm)[..., None] * 0.85
            pixels = pixels * (1 - line) + colour * line
        return pixels.astype(np.float32)

    return draw(planes, paint)


def log_jacobian(slabs: Sequence[Array], planes: Sequence[Plane], label_map: Array | None = None) -> bytes:
    """How much larger (orange) or smaller (blue) the moving image is at each place; folds are pink.

    Parameters
    ----------
    slabs
        As for `deformation_grid`.
    planes
        Slices to draw.
    label_map
        `(*shape)` integers whose outlines show where one is.
    """
    by_name = {plane.name: slab for plane, slab in zip(planes, slabs, strict=True)}

    def paint(panel: Panel) -> Pixels:
        determinant = _determinant(panel.plane, by_name[panel.plane.name])
        log = np.log(np.maximum(determinant, 1e-6))
        pixels = apply_map(VOLUME_CHANGE, panel.enlarge(log, smooth=False) / (2 * MOST_LOG_CHANGE) + 0.5)
        folded = panel.enlarge((determinant <= 0).astype(np.float32), smooth=False) > 0.5
        pixels[folded] = FOLDED
        return pixels if label_map is None else _outline(pixels, panel, label_map, tint=0, ink="#dde3ea")

    most = float(np.exp(MOST_LOG_CHANGE))
    return draw(planes, paint, ColourBar(VOLUME_CHANGE, (f"volume {1 / most:.1f}", "1", f"{most:.1f}")))


def window_of(image: Array) -> tuple[float, float]:
    """Grey values drawn black and white: percentiles 1 and 99.5 of the finite voxels that are not the commonest one."""
    step = max(1, round((image.size / 300_000) ** (1 / image.ndim)))
    values = np.asarray(image[(slice(None, None, step),) * image.ndim], dtype=np.float64)
    values = values[np.isfinite(values)]
    inside = values[values != values.min()] if values.size else values
    if not inside.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(inside, (1, 99.5)))
    return min(low, float(values.min()) if low > 0 else low), max(high, low + 1e-9)


def _grey(panel: Panel, image: Array, low: float, high: float) -> Pixels:
    piece = np.nan_to_num((panel.plane.cut(image).astype(np.float32) - low) / (high - low))
    grey = np.clip(panel.enlarge(np.clip(piece, 0, 1)), 0, 1)
    return np.repeat(grey[..., None], 3, 2)


def _outline(pixels: Pixels, panel: Panel, label_map: Array, *, tint: float, ink: str = "") -> Pixels:
    piece = panel.plane.cut(label_map)
    for label in np.unique(piece[piece != 0]):
        share, at = panel.enlarge_part(piece == label)
        steep = np.hypot(*np.gradient(share))
        inside_px = (share - 0.5) / np.maximum(steep, 1e-3)
        alpha = np.clip(1.6 - np.abs(inside_px - 1), 0, 1) * (0.4 if ink else 0.95)
        alpha = np.maximum(alpha, (share > 0.5) * tint)[..., None]
        pixels[at] += (rgb(ink or label_colour(int(label))) - pixels[at]) * alpha
    return pixels


def _mapped_mm(plane: Plane, slab: Array, axis: int) -> Array:
    """Where each pixel of the slice lies along `axis` of the moving image, mm."""
    window = plane.window[axis]
    start = np.arange(window.start, window.stop, dtype=np.float32)
    start = start.reshape([-1 if a == axis else 1 for a in range(len(plane.window))])
    mapped = (start + slab[axis]) * plane.spacing_mm[axis]
    return plane.turn(_middle(plane, mapped))


def _middle(plane: Plane, slab: Array) -> Array:
    return slab if plane.axis is None else np.take(slab, slab.shape[plane.axis] // 2, plane.axis)


def _lines(where_mm: Pixels, every_mm: float) -> Pixels:
    """Coverage, 0 to 1, of smooth lines where `where_mm` is a multiple of `every_mm`."""
    steep = np.maximum(np.hypot(*np.gradient(where_mm)), 1e-6)
    off_px = np.abs(where_mm - np.round(where_mm / every_mm) * every_mm) / steep
    return np.asarray(np.clip(1.3 - off_px, 0, 1), dtype=np.float32)


def _determinant(plane: Plane, slab: Array) -> Array:
    """Jacobian determinant of `x + u(x)` on the slice, central differences, rows by columns."""
    axes = range(len(slab))
    rows = [np.stack([_middle(plane, _slope(slab[c], d)) + (c == d) for d in axes], -1) for c in axes]
    matrix = np.stack(rows, -2)
    return plane.turn(np.linalg.det(matrix))


def _slope(component: Array, axis: int) -> Array:
    if component.shape[axis] < 2:
        return np.zeros_like(component)
    return np.asarray(np.gradient(component, axis=axis))
