"""Global normalised cross-correlation."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss, masked_mean


@SIMILARITIES.register("ncc")
def ncc(fixed: Tensor, mask: Tensor, *, radius: int = 0) -> MovedLoss:
    r"""One minus the correlation coefficient of fixed and moved intensities inside the mask.

    .. math:: 1 - \frac{\operatorname{cov}(m, f)}{\sqrt{\operatorname{var} m \, \operatorname{var} f}}

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`.
    mask
        `(batch, 1, *shape)`.
    radius
        Not used; a global measure has no window.

    Returns
    -------
    MovedLoss
        0 for a positive affine map of intensities, 2 for a negative one.
    """
    axes = [1] * (fixed.ndim - 1)

    def centred(x: Tensor) -> Tensor:
        return x - masked_mean(x, mask).view(-1, *axes)

    deviation = centred(fixed.expand_as(mask))
    variance = masked_mean(deviation**2, mask)

    def loss(moved: Tensor) -> Tensor:
        difference = centred(moved)
        covariance = masked_mean(difference * deviation, mask)
        return 1 - covariance / (variance * masked_mean(difference**2, mask) + 1e-8).sqrt()

    return loss
