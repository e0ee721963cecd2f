"""The sheet a figure is drawn on: panels in one scale, side letters, scale bar, colour bar, encoding."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from covoxel.report.planes import Array, Plane

Pixels = NDArray[np.float32]

WIDTH, HEIGHT, GAP, FOOT = 900, 340, 6, 34
INK, DIM = (226, 229, 233), (150, 156, 164)
BYTES_AT_MOST = 45_000


@dataclass(frozen=True)
class ColourBar:
    """A strip of colours with a word at each end (and one in the middle)."""

    colours: Pixels
    words: tuple[str, str, str]


@dataclass(frozen=True)
class Panel:
    """A plane and its size on the sheet, pixels."""

    plane: Plane
    width: int
    height: int
    pixels_per_mm: float

    def enlarge(self, piece: Array, *, smooth: bool = True) -> Pixels:
        """A slice, rows by columns, at the size of the panel; `smooth` is cubic, otherwise linear."""
        picture = Picture.fromarray(np.ascontiguousarray(piece, dtype=np.float32), mode="F")
        how = Picture.Resampling.BICUBIC if smooth else Picture.Resampling.BILINEAR
        return np.asarray(picture.resize((self.width, self.height), how), dtype=np.float32)

    def enlarge_part(self, piece: Array) -> tuple[Pixels, tuple[slice, slice]]:
        """A boolean slice at the size of the panel, 0 to 1, of the part where it is true; and which part that is."""
        parts = []
        for axis, length in ((0, self.height), (1, self.width)):
            true, factor = np.flatnonzero(piece.any(1 - axis)), length / piece.shape[axis]
            first, last = int((true[0] - 2) * factor), int((true[-1] + 3) * factor) + 1
            parts.append(slice(max(0, min(first, length - 2)), min(length, last)))
        rows, columns = parts
        across, down = piece.shape[1] / self.width, piece.shape[0] / self.height
        box = (columns.start * across, rows.start * down, columns.stop * across, rows.stop * down)
        picture = Picture.fromarray(np.ascontiguousarray(piece, dtype=np.float32), mode="F")
        size = (columns.stop - columns.start, rows.stop - rows.start)
        part = np.asarray(picture.resize(size, Picture.Resampling.BICUBIC, box=box), dtype=np.float32)
        return part, (rows, columns)


def panels_of(planes: Sequence[Plane]) -> tuple[Panel, ...]:
    """Panels of `planes` side by side, all at one scale."""
    widths, heights = zip(*(plane.size_mm for plane in planes), strict=True)
    room = WIDTH - GAP * (len(planes) - 1)
    scale = min(room / sum(widths), HEIGHT / max(heights))
    return tuple(
        Panel(plane, max(8, round(w * scale)), max(8, round(h * scale)), scale)
        for plane, w, h in zip(planes, widths, heights, strict=True)
    )


def draw(planes: Sequence[Plane], paint: Callable[[Panel], Pixels], bar: ColourBar | None = None) -> bytes:
    """WebP of a sheet with one panel a plane.

    Parameters
    ----------
    planes
        From left to right.
    paint
        Gives the colours of a panel, `(height, width, 3)` of 0 to 1.
    bar
        Colour bar under the panels.
    """
    panels = panels_of(planes)
    height = max(panel.height for panel in panels)
    width = max(sum(panel.width for panel in panels) + GAP * (len(panels) - 1), 640)
    sheet = Picture.new("RGB", (width, height + FOOT), (0, 0, 0))
    pen = ImageDraw.Draw(sheet)
    left = (width - sum(panel.width + GAP for panel in panels) + GAP) // 2
    for panel in panels:
        top = (height - panel.height) // 2
        pixels = (np.clip(paint(panel), 0, 1) * 255 + 0.5).astype(np.uint8)
        sheet.paste(Picture.fromarray(pixels, mode="RGB"), (left, top))
        _name(pen, panel, left, height)
        left += panel.width + GAP
    _foot(sheet, pen, panels, bar, height)
    return encode(sheet)


def encode(sheet: Picture.Image) -> bytes:
    """WebP of a picture, coarser until it has at most `BYTES_AT_MOST`."""
    data = b""
    for quality in (60, 40, 20, 5):
        stream = io.BytesIO()
        sheet.save(stream, "WEBP", quality=quality, method=1)
        data = stream.getvalue()
        if len(data) <= BYTES_AT_MOST:
            break
    return data


def _name(pen: ImageDraw.ImageDraw, panel: Panel, left: int, height: int) -> None:
    _write(pen, (left + 8, 6), panel.plane.name, INK, 16, "la")
    first, last = panel.plane.sides
    _write(pen, (left + 8, height // 2), first, INK, 17, "lm")
    _write(pen, (left + panel.width - 8, height // 2), last, INK, 17, "rm")


def _foot(
    sheet: Picture.Image, pen: ImageDraw.ImageDraw, panels: tuple[Panel, ...], bar: ColourBar | None, top: int
) -> None:
    middle = top + FOOT // 2 + 1
    _write(pen, (8, middle), "Radiological: patient's right on the left", DIM, 15, "lm")
    length_mm = round_length(90 / panels[0].pixels_per_mm)
    right, length = sheet.width - 8, round(length_mm * panels[0].pixels_per_mm)
    pen.line([(right - length, middle), (right, middle)], fill=INK, width=2)
    for end in (right - length, right):
        pen.line([(end, middle - 4), (end, middle + 4)], fill=INK, width=2)
    _write(pen, (right - length - 8, middle), f"{length_mm:g} mm", DIM, 15, "rm")
    if bar is not None:
        _colour_bar(sheet, pen, bar, middle)


def _colour_bar(sheet: Picture.Image, pen: ImageDraw.ImageDraw, bar: ColourBar, middle: int) -> None:
    strip = (np.clip(bar.colours, 0, 1)[None] * 255 + 0.5).astype(np.uint8)
    length, left = 130, sheet.width // 2 - 20
    sheet.paste(Picture.fromarray(strip, mode="RGB").resize((length, 12)), (left, middle - 6))
    low, centre, high = bar.words
    _write(pen, (left - 8, middle), low, DIM, 15, "rm")
    _write(pen, (left + length // 2, middle), centre, INK, 14, "mm")
    _write(pen, (left + length + 8, middle), high, DIM, 15, "lm")


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], words: str, colour: tuple[int, int, int], size: int, anchor: str
) -> None:
    pen.text(at, words, fill=colour, font=_font(size), anchor=anchor, stroke_width=1, stroke_fill=(0, 0, 0))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def round_length(most_mm: float) -> float:
    """The largest of 1, 2, 5, 10, 20 … mm that is not above `most_mm`."""
    power = 10.0 ** np.floor(np.log10(most_mm))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= most_mm * 1.0001))
