"""Structural similarity over a cubic window."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss, masked_mean
from covoxel.losses.box import box_sum

_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
"""The constants c1 and c2 of the reference for intensities with a range of 1."""


@SIMILARITIES.register("ssim")
def ssim(fixed: Tensor, mask: Tensor, *, radius: int = 3) -> MovedLoss:
    r"""One minus the mean structural similarity index.

    .. math:: 1 - \operatorname{mean}_x \frac{(2 \mu_f \mu_m + c_1)(2 \sigma_{fm} + c_2)}
              {(\mu_f^2 + \mu_m^2 + c_1)(\sigma_f^2 + \sigma_m^2 + c_2)}

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1 and of one scale with the moved ones.
    mask
        `(batch, 1, *shape)`; windows average over masked voxels only.
    radius
        Means and variances are over windows of `2 radius + 1` voxels a side, all voxels alike; the reference weights
        a window of 11 by a Gaussian.

    Returns
    -------
    MovedLoss
        0 for equal images, up to 2.

    References
    ----------
    Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 2004.
    """
    reciprocal = box_sum(mask, radius).clamp(min=1e-3).reciprocal()

    def mean(x: Tensor) -> Tensor:
        return box_sum(x * mask, radius) * reciprocal

    fixed_mean = mean(fixed)
    fixed_variance = (mean(fixed**2) - fixed_mean**2).clamp(min=0)

    def loss(moved: Tensor) -> Tensor:
        moved_mean = mean(moved)
        variance = (mean(moved**2) - moved_mean**2).clamp(min=0) + fixed_variance
        covariance = mean(moved * fixed) - moved_mean * fixed_mean
        luminance = (2 * fixed_mean * moved_mean + _LUMINANCE) / (fixed_mean**2 + moved_mean**2 + _LUMINANCE)
        index = luminance * (2 * covariance + _CONTRAST) / (variance + _CONTRAST)
        return masked_mean(1 - index, mask)

    return loss
