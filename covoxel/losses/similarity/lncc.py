"""Local normalised cross-correlation over a cubic window, with an analytic gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.losses.box import box_sum

_VARIANCE_FLOOR = 1e-3
"""Added to local variances of intensities of 0 to 1: windows flatter than this do not count."""


class _FixedStatistics:
    """Sums over windows that depend on the fixed image and the mask alone."""

    def __init__(self, fixed: Tensor, mask: Tensor, radius: int) -> None:
        self.fixed, self.mask, self.radius = fixed, mask, radius
        self.reciprocal_count = box_sum(mask, radius).clamp(min=1e-3).reciprocal()
        weighted = fixed * mask
        self.mean = box_sum(weighted, radius) * self.reciprocal_count
        square = box_sum(weighted * fixed, radius) * self.reciprocal_count
        self.variance = (square - self.mean**2).clamp(min=0) + _VARIANCE_FLOOR
        self.total = mask.sum(tuple(range(1, mask.ndim)), keepdim=True).clamp(min=1)


class _LocalCorrelation(Function):
    """Sum of squared local correlations; the gradient needs three more box sums."""

    @staticmethod
    def forward(ctx: Any, moved: Tensor, fixed: _FixedStatistics) -> Tensor:
        weighted = moved * fixed.mask
        windows = torch.cat([weighted, weighted * moved, weighted * fixed.fixed], 1)
        windows = box_sum(windows, fixed.radius) * fixed.reciprocal_count
        mean = windows[:, :1]
        variance = (windows[:, 1:2] - mean**2).clamp_(min=0).add_(_VARIANCE_FLOOR)
        covariance = windows[:, 2:] - fixed.mean * mean
        slope = covariance / (fixed.variance * variance)
        ctx.fixed = fixed
        ctx.save_for_backward(moved, mean, variance, covariance, slope)
        axes = tuple(range(1, moved.ndim))
        return (slope * covariance * fixed.mask / fixed.total).sum(axes)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        moved, mean, variance, covariance, slope = ctx.saved_tensors
        fixed: _FixedStatistics = ctx.fixed
        a = slope * fixed.reciprocal_count * fixed.mask * 2
        b = a * covariance / variance
        sums = box_sum(torch.cat([a, b, b * mean - a * fixed.mean], 1), fixed.radius)
        gradient = (fixed.fixed * sums[:, :1] - moved * sums[:, 1:2] + sums[:, 2:]) * fixed.mask
        scale = grad[0].view(-1, *[1] * (moved.ndim - 1)) / fixed.total
        return gradient * scale, None


def lncc(fixed: Tensor, mask: Tensor, *, radius: int = 2) -> MovedLoss:
    r"""One minus the mean squared local correlation.

    .. math:: 1 - \operatorname{mean}_x \frac{\operatorname{cov}_W(m, f)^2}{(\operatorname{var}_W m + \epsilon)
              (\operatorname{var}_W f + \epsilon)}

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1.
    mask
        `(batch, 1, *shape)`; windows average over masked voxels only.
    radius
        The window W has `2 radius + 1` voxels a side.

    Returns
    -------
    MovedLoss
        0 for a local affine map of intensities, 1 for none. Eleven box sums for value and gradient,
        independent of the radius.

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Med Image Anal 2008.
    """
    statistics = _FixedStatistics(fixed.expand(mask.shape[0], *fixed.shape[1:]), mask, radius)

    def loss(moved: Tensor) -> Tensor:
        correlation: Tensor = _LocalCorrelation.apply(moved, statistics)  # type: ignore[no-untyped-call]
        return 1 - correlation

    return loss


SIMILARITIES.register("lncc")(lncc)
