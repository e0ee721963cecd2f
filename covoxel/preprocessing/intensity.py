"""Robust intensity normalisation: any scanner's numbers to 0 … 1."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from covoxel.preprocessing.content import content_box
from covoxel.spatial import Image

_BACKGROUND_SHARE = 0.05
_SHOULDER = 0.25


def foreground(image: Image) -> Tensor:
    """Mask, `(*shape)`, of the voxels that are not background.

    Background is a border of one value or of noise, see `content_box`; and of what is left one constant: the least
    value, or the value that most of the outer faces have, if it fills more than 5 % (air set to zero). An image without
    such a border or constant is all foreground, and so is a constant image.
    """
    box = content_box(image)
    found = torch.zeros_like(image.data, dtype=torch.bool)
    found[box.window] = not_constant(image.data[box.window])
    return found


def not_constant(data: Tensor) -> Tensor:
    """Mask, `(*shape)`, of what is no constant background, in an image without a border; see `foreground`."""
    faces = torch.cat([data.select(axis, end).reshape(-1) for axis in range(data.ndim) for end in (0, -1)])
    background = torch.zeros_like(data, dtype=torch.bool)
    for constant in (data.min(), faces.median()):
        filled = data == constant
        if float(filled.float().mean()) > _BACKGROUND_SHARE:
            background |= filled
    return ~background if not background.all() else torch.ones_like(background)


def normalise(
    image: Image,
    mask: Tensor | None = None,
    *,
    percentiles: tuple[float, float] = (1.0, 99.0),
    clip: Literal["hard", "soft"] = "hard",
) -> Tensor:
    """Intensities scaled so that two percentiles become 0 and 1.

    Parameters
    ----------
    image
        Any finite intensities; integer or floating point.
    mask
        `(*shape)` bool, the voxels the percentiles are taken from; by default `foreground(image)`.
    percentiles
        The two percentiles, 0 to 100, interpolated linearly.
    clip
        "hard": outside 0 to 1 is cut off. "soft": it is bent, so that order is kept, and stays within -0.25 to 1.25.

    Returns
    -------
    Tensor
        `(*shape)` float32, unchanged (to rounding) by `a x + b` with a > 0. Where the percentiles coincide,
        the least and largest value of the mask take their place; a constant image becomes zero.

    Raises
    ------
    ValueError
        If intensities are not finite, or the mask is empty or of another shape.
    """
    data = image.data.double()
    if not data.isfinite().all():
        raise ValueError(f"image must be finite, got {int((~data.isfinite()).sum())} voxels that are not")
    if mask is None:
        mask = foreground(image)
    if mask.shape != data.shape or not mask.any():
        raise ValueError(f"mask must be {tuple(data.shape)} and not empty, got {tuple(mask.shape)}")
    inside = data[mask.to(data.device, torch.bool)].cpu().numpy()
    low, high = (float(p) for p in np.percentile(inside, percentiles))
    if not high > low:
        low, high = float(inside.min()), float(inside.max())
    if not high > low:
        return torch.zeros(data.shape, dtype=torch.float32, device=data.device)
    scaled = (data - low) / (high - low)
    clipped = scaled.clamp(0, 1)
    if clip == "soft":
        clipped += _SHOULDER * torch.tanh((scaled - clipped) / _SHOULDER)
    return clipped.float()
