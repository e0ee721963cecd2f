"""Likeness of atlases and image in a window around each voxel, from voxels inside the field of view only."""

import torch
from torch import Tensor

from covoxel.losses.box import box_sum

VARIANCE_FLOOR = 1e-3
"""Added to variances of standardised intensities: a window without contrast is like nothing."""


def window_count(inside: Tensor, radius: int) -> Tensor:
    """Voxels inside, of the window around each voxel; 1 where there is none, so that one can divide by it."""
    return box_sum(inside, radius).round_().clamp_(min=1)


def window_mean(x: Tensor, inside: Tensor, radius: int, count: Tensor | None = None) -> Tensor:
    """Mean of `x` over the window around each voxel, voxels where `inside` only.

    Parameters
    ----------
    x
        `(batch, channel, *shape)`.
    inside
        `(batch, 1, *shape)` of the type of `x`, ones and zeros.
    radius
        Half side of the window in voxels.
    count
        `window_count` of the same, if it is known.

    Returns
    -------
    Tensor
        As `x`; 0 where a window holds no voxel inside.
    """
    return box_sum(x * inside, radius) / (window_count(inside, radius) if count is None else count)


def correlation(fixed: Tensor, moved: Tensor, inside: Tensor, radius: int, count: Tensor | None = None) -> Tensor:
    """Correlation coefficient of two standardised images in the window around each voxel.

    Parameters
    ----------
    fixed, moved, inside
        `(atlas, 1, *shape)`, the last ones and zeros.
    radius
        Half side of the window in voxels.
    count
        `window_count` of the same, if it is known.

    Returns
    -------
    Tensor
        `(atlas, 1, *shape)` in -1 to 1.
    """
    products = torch.cat([fixed, moved, fixed * fixed, moved * moved, fixed * moved], 1)
    f, m, ff, mm, fm = window_mean(products, inside, radius, count).tensor_split(5, 1)
    variance_f = (ff - f * f).clamp_(min=0).add_(VARIANCE_FLOOR)
    variance_m = (mm - m * m).clamp_(min=0).add_(VARIANCE_FLOOR)
    return (fm - f * m).div_(variance_f.mul_(variance_m).sqrt_())


def locally_normalised(image: Tensor, inside: Tensor, radius: int) -> Tensor:
    """Standardised `image` less its mean and over its standard deviation in the window around each voxel."""
    mean, square = window_mean(torch.cat([image, image * image], 1), inside, radius).tensor_split(2, 1)
    spread = (square - mean * mean).clamp_(min=0).add_(VARIANCE_FLOOR).sqrt_()
    return (image - mean).div_(spread)
