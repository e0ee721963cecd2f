"""Intensities of visits made comparable: what varies slowly from visit to visit is the scanner, not the subject."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from covoxel.preprocessing import foreground
from covoxel.spatial import Image
from covoxel.spatial.smoothing import gaussian

_LEAST = 1e-4
_FLAT = 0.05
"""Slope, a voxel, at which a place counts half."""


def even_out(moved: Tensor, template: Tensor, mask: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """The visit divided by its own bias field relative to the template.

    The field is the gain by which the template best explains the visit in a Gaussian window around each voxel. Borders
    hardly count: one that moved a little would pass for a gain.

    Parameters
    ----------
    moved, template
        `(1, 1, *shape)` intensities of about 0 to 1, aligned.
    mask
        `(1, 1, *shape)` 0 or 1, where both are known.
    sigma_vox
        Standard deviation of the window along each axis, voxels.

    Returns
    -------
    Tensor
        `(1, 1, *shape)`; unchanged where the template is dark all around.
    """
    weight = mask / (1 + slope_of(template).square().sum(1, keepdim=True) / _FLAT**2)
    product = gaussian(moved * template * weight, sigma_vox)
    square = gaussian(template.square() * weight, sigma_vox)
    gain = (product + _LEAST) / (square + _LEAST)
    return moved / gain.clamp(min=0.1, max=10.0)


def slope_of(image: Tensor) -> Tensor:
    """Central differences of `(1, 1, *shape)`, `(1, n, *shape)` per voxel; 0 along a side of one voxel."""
    axes = [axis for axis in range(2, image.ndim) if image.shape[axis] > 1]
    slopes = dict(zip(axes, torch.gradient(image, dim=axes), strict=True))
    return torch.cat([slopes.get(axis, torch.zeros_like(image)) for axis in range(2, image.ndim)], 1)


def scaled(image: Image) -> Image:
    """Intensities so that the percentiles 1 and 99 of the foreground become 0 and 1; nothing is cut off.

    A bright structure that is small lies above the upper percentile: cut off, its border would move with the cut.
    """
    data = image.data.float()
    inside = data[foreground(image)].double().cpu().numpy()
    low, high = (float(p) for p in np.percentile(inside, (1, 99)))
    if not high > low:
        low, high = float(inside.min()), float(inside.max())
    return Image((data - low) / (high - low) if high > low else torch.zeros_like(data), image.grid)
