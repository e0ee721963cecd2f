"""Cropping to the foreground or to the content, with the way back exact."""

import numpy as np
import torch

from covoxel.preprocessing.content import Box, content_box
from covoxel.preprocessing.intensity import foreground
from covoxel.preprocessing.lattice import copy_onto
from covoxel.spatial import Image


def foreground_box(image: Image, margin_mm: float = 5.0) -> Box:
    """Smallest box around what is brighter than Otsu's threshold, or than a constant background, and a margin.

    Parameters
    ----------
    image
        Intensities; bright on a dark background, or on a constant one.
    margin_mm
        Added on every side, rounded up to voxels, but never beyond the image.

    Raises
    ------
    ValueError
        If the margin is negative or not finite.
    """
    if not (np.isfinite(margin_mm) and margin_mm >= 0):
        raise ValueError(f"margin_mm must be 0 or more, got {margin_mm}")
    mask, window = foreground(image), content_box(image).window
    if mask[window].all():
        content = cropped_to_content(image)
        mask[window] = content.data > otsu_threshold(content)
    start, shape = [], []
    for axis, side in enumerate(image.grid.shape):
        hit = torch.nonzero(mask.movedim(axis, 0).reshape(side, -1).any(1))
        margin = int(np.ceil(margin_mm / image.grid.spacing_mm[axis]))
        first, last = (int(hit[0]), int(hit[-1])) if len(hit) else (0, side - 1)
        start.append(max(0, first - margin))
        shape.append(min(side, last + margin + 1) - start[-1])
    return Box(tuple(start), tuple(shape))


def otsu_threshold(image: Image, bins: int = 256) -> float:
    """Threshold that parts intensities into two classes with the largest variance between them (Otsu 1979).

    Of equally good thresholds the lowest; the tails beyond the 0.1 and 99.9 percentiles are counted at these.
    """
    values = image.data.double().cpu().numpy().ravel()
    low, high = np.percentile(values, (0.1, 99.9))
    if not high > low:
        return float(values.min())
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = values.size - below
    mass = np.cumsum(counts * centres)
    between = below * above * (mass[:-1] / np.maximum(below, 1) - (mass[-1] - mass[:-1]) / np.maximum(above, 1)) ** 2
    return float(edges[1:-1][between.argmax()])


def crop(image: Image, box: Box, *, fill: float = 0) -> Image:
    """The voxels of `box`; those outside the image are `fill`. `copy_onto(crop(…), image.grid)` is the way back."""
    return copy_onto(image, image.grid.cropped(box.start, box.shape), fill=fill)


def cropped_to_content(image: Image) -> Image:
    """The image without a border of one value or of noise, see `content_box`; itself where it has none."""
    box = content_box(image)
    return image if box.shape == image.grid.shape else crop(image, box)
