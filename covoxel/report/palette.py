"""Colours: one per structure, the same in figures and on the page, and the three colour maps."""

import numpy as np
from numpy.typing import NDArray

LABEL_COLOURS = (
    "#35c5f0",
    "#ffb020",
    "#f0609e",
    "#7bd65f",
    "#b594ff",
    "#ff7d52",
    "#35d0b0",
    "#e8dc52",
    "#7da2ff",
    "#d98fd6",
)
FOLDED = (1.0, 0.0, 0.78)


def label_colour(label: int) -> str:
    """Hexadecimal colour of a label value; ten of them, in turn."""
    return LABEL_COLOURS[(abs(label) - 1) % len(LABEL_COLOURS)]


def rgb(colour: str) -> NDArray[np.float32]:
    """Red, green, blue of 0 to 1 of a hexadecimal colour."""
    return np.asarray([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], dtype=np.float32)


def colour_map(anchors: tuple[str, ...]) -> NDArray[np.float32]:
    """256 colours, linear between evenly spaced `anchors`; `(256, 3)`."""
    colours = np.stack([rgb(anchor) for anchor in anchors])
    at = np.linspace(0, len(anchors) - 1, 256)
    return np.stack([np.interp(at, np.arange(len(anchors)), colours[:, c]) for c in range(3)], 1).astype(np.float32)


def apply_map(colours: NDArray[np.float32], unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours `(*shape, 3)` of values of 0 to 1."""
    return colours[np.clip(np.nan_to_num(unit) * 255 + 0.5, 0, 255).astype(np.uint8)]


# Doubt: from sure (dark) to unsure (bright). Change of volume: halved is blue, kept is near black, doubled is orange.
DOUBT = colour_map(("#2a0a3a", "#7a1c6d", "#d8453f", "#ff9f1c", "#fff3a3"))
VOLUME_CHANGE = colour_map(
    ("#b9e6ff", "#4fb3f2", "#1f62a8", "#14283f", "#17181b", "#47220f", "#a84a12", "#f28c33", "#ffe2b0")
)
