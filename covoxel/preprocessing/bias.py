"""Bias field correction by N4, of SimpleITK."""

import math
from typing import Any

import numpy as np
import SimpleITK
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.spatial import Image

_ITK: Any = SimpleITK  # it has no types


def correct_bias(
    image: Image,
    mask: Tensor | None = None,
    *,
    shrink: int = 4,
    iterations: tuple[int, ...] = (50, 50, 50),
    spline_spacing_mm: float | None = None,
) -> Image:
    """The image divided by a smooth field, so that one tissue has one intensity.

    Parameters
    ----------
    image
        Intensities. Where some are negative, they are raised by the least for the estimate; the division is of
        the raised ones and the raise is taken back.
    mask
        `(*shape)` bool, the voxels the field is estimated from; by default those above Otsu's threshold.
    shrink
        The field is estimated on every so many-th voxel along an axis, but of a side never fewer than 8 are left.
    iterations
        At most so many at each of the resolutions of the spline, coarse to fine.
    spline_spacing_mm
        Distance of the control points at the coarsest resolution; by default one span over the image.

    Returns
    -------
    Image
        float32, on the same grid and device. One thread, so the same bits every time.

    References
    ----------
    Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 2010.
    """
    if shrink < 1:
        raise ValueError(f"shrink must be 1 or more, got {shrink}")
    data = image.data.detach().cpu().double().numpy()
    if not np.isfinite(data).all():
        raise ValueError(f"image must be finite, got {int((~np.isfinite(data)).sum())} voxels that are not")
    floor = min(float(data.min()), 0.0)
    if float(data.max()) - floor <= 0 or float(data.max()) == float(data.min()):
        return Image(image.data.float(), image.grid)
    raised = (data - floor).astype(np.float32)
    whole = _to_itk(raised, image)
    voxels = (
        _ITK.OtsuThreshold(whole, 0, 1, 200) if mask is None else _to_itk(mask.cpu().numpy().astype(np.uint8), image)
    )
    factors = [max(1, min(shrink, side // 8)) for side in image.grid.shape]
    correction = _ITK.N4BiasFieldCorrectionImageFilter()
    correction.SetNumberOfThreads(1)
    correction.SetMaximumNumberOfIterations([int(n) for n in iterations])
    correction.SetNumberOfControlPoints(_control_points(image, spline_spacing_mm))
    correction.Execute(_ITK.Shrink(whole, factors), _ITK.Shrink(voxels, factors))
    field = np.exp(_ITK.GetArrayFromImage(correction.GetLogBiasFieldAsImage(whole)).T)
    corrected = raised / np.maximum(field, 1e-6) + floor
    return Image(torch.from_numpy(np.ascontiguousarray(corrected, dtype=np.float32)).to(image.data.device), image.grid)


def _to_itk(array: NDArray[Any], image: Image) -> Any:
    """ITK image of `array` in (i, j, k) order; axes as they are, for a spline needs no more than the spacing."""
    itk = _ITK.GetImageFromArray(np.ascontiguousarray(array.T))
    itk.SetSpacing([float(s) for s in image.grid.spacing_mm])
    return itk


def _control_points(image: Image, spline_spacing_mm: float | None) -> list[int]:
    """Control points an axis: one more than the spans, and two for the cubic spline's ends."""
    if spline_spacing_mm is None:
        return [4] * image.grid.ndim
    if not spline_spacing_mm > 0:
        raise ValueError(f"spline_spacing_mm must be positive, got {spline_spacing_mm}")
    extent = image.grid.spacing_mm * np.asarray(image.grid.shape)
    return [math.ceil(length / spline_spacing_mm) + 3 for length in extent]
