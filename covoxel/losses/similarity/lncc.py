"""Local normalised cross-correlation over a cubic window, with an analytic gradient."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.losses.box import box_sum

Border = Literal["masked", "zeros"]

_VARIANCE_FLOOR = 1e-3
"""Added to local variances of intensities of 0 to 1: windows flatter than this do not count."""
_PRODUCT_FLOOR = 1e-5
"""Added to the product of two local sums of squares in the convention of others, whatever the window."""


class _FixedStatistics:
    """Sums over windows that depend on the fixed image and the mask alone."""

    def __init__(self, fixed: Tensor, mask: Tensor, radius: int, border: Border) -> None:
        self.fixed, self.mask, self.radius = fixed, mask, radius
        voxels = (2 * radius + 1) ** (fixed.ndim - 2)
        if border == "masked":
            self.reciprocal_count = box_sum(mask, radius).clamp(min=1e-3).reciprocal()
            self.variance_floor, self.product_floor = _VARIANCE_FLOOR, 0.0
        else:
            self.reciprocal_count = fixed.new_full((), 1 / voxels)
            self.variance_floor, self.product_floor = 0.0, _PRODUCT_FLOOR / voxels**2
        weighted = fixed * mask
        sums = box_sum(torch.cat([weighted, weighted * fixed], 1), radius) * self.reciprocal_count
        self.mean = sums[:, :1]
        self.variance = (sums[:, 1:] - self.mean**2).clamp_(min=0).add_(self.variance_floor)
        self.total = mask.sum(tuple(range(1, mask.ndim)), keepdim=True).clamp(min=1)


class _LocalCorrelation(Function):
    """Mean of squared local correlations; the gradient needs three more box sums."""

    @staticmethod
    def forward(ctx: Any, moved: Tensor, fixed: _FixedStatistics) -> Tensor:
        weighted = moved * fixed.mask
        windows = torch.cat([weighted, weighted * moved, weighted * fixed.fixed], 1)
        windows = box_sum(windows, fixed.radius) * fixed.reciprocal_count
        mean = windows[:, :1]
        variance = (windows[:, 1:2] - mean**2).clamp_(min=0).add_(fixed.variance_floor)
        covariance = windows[:, 2:] - fixed.mean * mean
        slope = covariance / (fixed.variance * variance).add_(fixed.product_floor)
        ctx.fixed = fixed
        ctx.save_for_backward(moved, mean, covariance, slope)
        axes = tuple(range(1, moved.ndim))
        return (slope * covariance * fixed.mask / fixed.total).sum(axes)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        moved, mean, covariance, slope = ctx.saved_tensors
        fixed: _FixedStatistics = ctx.fixed
        a = slope * fixed.reciprocal_count * fixed.mask * 2
        b = a * slope * fixed.variance
        sums = box_sum(torch.cat([a, b, b * mean - a * fixed.mean], 1), fixed.radius)
        gradient = (fixed.fixed * sums[:, :1] - moved * sums[:, 1:2] + sums[:, 2:]) * fixed.mask
        scale = grad[0].view(-1, *[1] * (moved.ndim - 1)) / fixed.total
        return gradient * scale, None


def lncc(fixed: Tensor, mask: Tensor, *, radius: int = 2, border: Border = "masked") -> MovedLoss:
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
    border
        "masked": windows average over the masked voxels in them, and ε is 0.001, the variance of a window without
        contrast. "zeros": the convention of VoxelMorph and of MONAI's `LocalNormalizedCrossCorrelationLoss`, to compare
        figures and take over settings. What lies outside the image or the mask is data of value 0, and 0.00001 is added
        to the product of both sums of squares instead; this loss is then 1 plus theirs. Noise counts sooner.

    Returns
    -------
    MovedLoss
        0 for a local affine map of intensities, 1 for none. Nine box sums for value and gradient, three of them once
        for each fixed image; nothing else of the size of a window is computed.

    Raises
    ------
    ValueError
        If `border` is neither.

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Med Image Anal 2008.
    """
    if border not in ("masked", "zeros"):
        raise ValueError(f"border must be 'masked' or 'zeros', got {border!r}")
    statistics = _FixedStatistics(fixed.expand(mask.shape[0], *fixed.shape[1:]), mask, radius, border)

    def loss(moved: Tensor) -> Tensor:
        correlation: Tensor = _LocalCorrelation.apply(moved, statistics)  # type: ignore[no-untyped-call]
        return 1 - correlation

    return loss


SIMILARITIES.register("lncc")(lncc)
