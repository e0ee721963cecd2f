"""Change of spacing: coarser without aliasing, finer by linear interpolation."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from covoxel.spatial import Image, resample

_FWHM = math.sqrt(8 * math.log(2))


def respaced(image: Image, spacing_mm: ArrayLike) -> Image:
    """The image with voxels near `spacing_mm` over the same field of view.

    Where voxels get larger the image is smoothed before, by the Gaussian whose full width at half maximum makes a
    profile as wide as the old voxel one as wide as the new: `FWHM² = new² - old²`.

    Parameters
    ----------
    image
        Intensities.
    spacing_mm
        `(n,)` or one for all axes; sides are rounded to whole voxels. Axes already within 1 % keep their voxels.

    Raises
    ------
    ValueError
        If a spacing is not positive and finite.

    References
    ----------
    Cardoso et al., Scale factor point spread function matching: beyond aliasing in image resampling, MICCAI 2015.
    """
    wanted = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (image.grid.ndim,)).copy()
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError(f"spacing_mm must be positive, got {wanted.tolist()}")
    old = image.grid.spacing_mm
    wanted = np.where(np.abs(wanted - old) <= 0.01 * old, old, wanted)
    onto = image.grid.with_spacing(wanted)
    if onto.shape == image.grid.shape:
        return image
    sigma_vox = np.sqrt(np.maximum((onto.spacing_mm / old) ** 2 - 1, 0)) / _FWHM
    return resample(Image(smoothed(image.data.float(), sigma_vox), image.grid), onto, padding="border")


def smoothed(data: Tensor, sigma_vox: NDArray[np.float64]) -> Tensor:
    """`data` `(*shape)` under a Gaussian of `sigma_vox` along each axis (0: none), values at the border continued."""
    for axis, sigma in enumerate(sigma_vox):
        if sigma <= 0 or data.shape[axis] == 1:
            continue
        radius = math.ceil(3 * sigma)
        steps = torch.arange(-radius, radius + 1, dtype=data.dtype, device=data.device)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        lines = data.movedim(axis, -1)
        padded = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (radius, radius), mode="replicate")
        data = functional.conv1d(padded, (kernel / kernel.sum())[None, None]).reshape(lines.shape).movedim(-1, axis)
    return data
