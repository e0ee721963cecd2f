"""Smoothing of images and fields: Gaussian, and by the heat flow of the bending energy; averages over cells."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def gaussian(x: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Gaussian smoothing with mirrored border values repeated, cut at three standard deviations.

    Parameters
    ----------
    x
        `(batch, channel, *shape)`, 2-D or 3-D.
    sigma_vox
        Standard deviation along each axis, voxels; 0 leaves an axis as it is.
    """
    for axis, sigma in enumerate(sigma_vox, start=2):
        if sigma > 0 and x.shape[axis] > 1:
            x = _gaussian_axis(x, sigma, axis)
    return x


def _gaussian_axis(x: Tensor, sigma: float, axis: int) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    side = x.shape[axis]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, side - 1, 1)
    border = [-1] * x.ndim
    border[axis] = radius
    padded = torch.cat([first.expand(border), x, last.expand(border)], axis)
    smooth = x * (weights[0] / total)
    for i in range(1, radius + 1):
        pair = padded.narrow(axis, radius - i, side) + padded.narrow(axis, radius + i, side)
        smooth.add_(pair, alpha=weights[i] / total)
    return smooth


def bending_flow(x: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Descent of the bending energy of `x` for the time that damps waves as `gaussian` of `sigma_vox` would at 1/sigma.

    Diffusion damps a wave of frequency w by exp(-(w sigma)² / 2); this damps it by exp(-((w sigma)² / 2)²):
    long waves are kept better, short ones are damped more. Exact, by cosine transforms (mirrored border).

    Parameters
    ----------
    x
        `(batch, channel, *shape)`, 2-D or 3-D. Costs two products with a `(side, side)` matrix an axis.
    sigma_vox
        As for `gaussian`.
    """
    exponent = x.new_zeros(())
    for axis, sigma in enumerate(sigma_vox, start=2):
        x = _along(x, _cosines(x.shape[axis], x), axis)
        wave = torch.arange(x.shape[axis], dtype=x.dtype, device=x.device) * (math.pi / x.shape[axis])
        half = (1 - torch.cos(wave)) * sigma**2
        exponent = exponent + half.view([-1 if d == axis else 1 for d in range(x.ndim)])
    x = x * torch.exp(-(exponent**2))
    for axis in range(2, x.ndim):
        x = _along(x, _cosines(x.shape[axis], x).T, axis)
    return x


def _cosines(side: int, like: Tensor) -> Tensor:
    """Orthonormal cosine transform (DCT-II), `(side, side)`."""
    index = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (index[None] + 0.5) * index[:, None]) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def _along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def cell_means(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Mean over cells of `factors` voxels, `(batch, channel, *ceil(shape / factors))`; the last cell may be partial."""
    factors = [min(factor, side) for factor, side in zip(factors, x.shape[2:], strict=True)]
    if all(f == 1 for f in factors):
        return x
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    return pool(x, tuple(factors), tuple(factors), ceil_mode=True, count_include_pad=False)


def refine(x: Tensor, factors: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Linear interpolation from cell centres to voxels, the way back of `cell_means`, cut to `shape`."""
    if all(f == 1 for f in factors):
        return x
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    x = functional.interpolate(x, scale_factor=tuple(factors), mode=mode, align_corners=False)
    short = [max(0, wanted - side) for wanted, side in zip(shape, x.shape[2:], strict=True)]
    if any(short):
        x = functional.pad(x, [p for extra in reversed(short) for p in (0, extra)], mode="replicate")
    for axis, side in enumerate(shape, start=2):
        x = x.narrow(axis, 0, side)
    return x
