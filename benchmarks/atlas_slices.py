"""A template of six slices of six people: how long it takes, and a picture of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks import common
from benchmarks.atlas_scores import sharpness
from benchmarks.common import Bar
from benchmarks.measure import Stopwatch
from covoxel.atlas import TemplateSettings, build_template
from covoxel.io.atomic import atomic_path
from covoxel.preprocessing import normalise
from covoxel.spatial import Grid, Image, resample

MOST_SECONDS = 60.0
MARGIN = 8
NOTES = (
    "sharpness: mean length of the gradient, SD a mm; of the mean as they lie for comparison.",
    "similarity: mean correlation of the slices with the template onto which they were brought last.",
)


def run(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Bar], Sequence[str]]:
    """Build it, and draw it if a file is named."""
    torch.set_num_threads(options.threads)
    slices = read_slices(common.data_folder("slices2d"))
    with Stopwatch() as watch:
        found = build_template(slices, TemplateSettings(iterations=options.iterations))
    plain = Image(torch.stack([resample(s, found.image.grid).data for s in slices.values()]).mean(0), found.image.grid)
    if options.picture is not None:
        draw([*slices.values()], plain, found.image, options.picture)
    last = found.history[-1]
    row = {
        "slices": len(slices),
        "steps": len(found.history),
        "similarity": last.similarity,
        "ndv_percent": last.ndv_percent,
        "sharpness": sharpness(found.image),
        "sharpness_as_they_lie": sharpness(plain),
        "seconds": watch.seconds,
    }
    return [row], [Bar("seconds for the template of the slices", watch.seconds, MOST_SECONDS, False)], NOTES


def read_slices(folder: Path) -> dict[str, Image]:
    """The slices by name, 1 mm a pixel, right and anterior upwards, intensities 0 to 1."""
    found = {}
    for path in sorted(folder.glob("*.jpg")):
        with Picture.open(path) as picture:
            grey = np.asarray(picture.convert("L"), dtype=np.float32)
        data = torch.from_numpy(np.ascontiguousarray(grey[::-1].T))
        image = Image(data, Grid.from_spacing(tuple(data.shape), 1.0))
        found[path.stem] = Image(normalise(image), image.grid)
    return found


def draw(slices: Sequence[Image], plain: Image, template: Image, path: Path) -> None:
    """The slices, their mean as they lie, and the template, in one grey picture."""
    box = _box(template.data.numpy())
    large = [np.asarray(_shown(image.data.numpy())[box]) for image in (plain, template)]
    height = large[0].shape[0]
    small = [_shrunk(_shown(image.data.numpy()), (height - MARGIN) // 2) for image in slices]
    rows = [np.hstack(small[start : start + 3]) for start in (0, 3)]
    gap = np.zeros((MARGIN, rows[0].shape[1]), dtype=np.uint8)
    left = np.vstack([rows[0], gap, rows[1]])[:height]
    left = np.pad(left, ((0, height - left.shape[0]), (0, 0)))
    bar = np.zeros((height, MARGIN), dtype=np.uint8)
    sheet = np.hstack([left, bar, large[0], bar, large[1]])
    with atomic_path(path) as temporary:
        Picture.fromarray(sheet).save(temporary, format="PNG", optimize=True)


def _shown(data: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(data, 0, 1).T[::-1] * 255 + 0.5, dtype=np.uint8)


def _shrunk(picture: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    inner = picture[20:-20, 30:-30]
    width = round(height * inner.shape[1] / inner.shape[0])
    return np.asarray(Picture.fromarray(inner).resize((width, height), Picture.Resampling.LANCZOS))


def _box(data: NDArray[Any]) -> tuple[slice, slice]:
    """Rows and columns of the picture in which there is something, and a margin."""
    inside = np.argwhere(_shown(data) > 20)
    low, high = np.maximum(inside.min(0) - MARGIN, 0), inside.max(0) + MARGIN
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
