"""Figures as data URIs with their captions and sizes."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from PIL import Image, UnidentifiedImageError

from covoxel.report.gaps import Gap, Guard

CAPTIONS = {
    "overlay": ("Segmentation", "Lines run halfway between voxels of different labels."),
    "checkerboard": (
        "Case and moved image",
        "Squares in turn, the moved image tinted. Edges should run on across squares.",
    ),
    "confidence": ("Doubt", "Bright where the winning label had little more than half the votes."),
    "grid": ("Deformation", "The moving image's straight grid as it lands on the case; the linear part is left out."),
    "change": ("Change of volume", "Last against first visit: orange grew, blue shrank."),
    "jacobian": ("Change of volume", "Moving against case: orange larger, blue smaller, pink folded. Log scale."),
}
KINDS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}


@dataclass(frozen=True)
class Picture:
    """An image on the page."""

    title: str
    caption: str
    alt: str
    source: str
    width: int
    height: int


def pictures_of(figures: Mapping[str, bytes], case: str, guard: Guard) -> tuple[Picture | Gap, ...]:
    """Pictures of a case in the order of `CAPTIONS`, then unknown keys; bytes that are no image are gaps."""
    known = [key for key in CAPTIONS if key in figures]
    return tuple(
        guard.one(f"{_words(key)[0]} of case {case}", partial(_picture, key, figures[key], case))
        for key in known + [key for key in figures if key not in CAPTIONS]
    )


def _words(key: str) -> tuple[str, str]:
    return CAPTIONS.get(key, (key, ""))


def _picture(key: str, data: bytes, case: str) -> Picture:
    title, caption = _words(key)
    try:
        with Image.open(io.BytesIO(data), formats=tuple(KINDS)) as image:
            kind, (width, height) = KINDS[str(image.format)], image.size
    except UnidentifiedImageError:
        raise ValueError("the bytes are no image") from None
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(title, caption, f"{title} of case {case}", source, width, height)
