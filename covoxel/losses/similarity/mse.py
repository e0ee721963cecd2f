"""Mean squared difference."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss, masked_mean


@SIMILARITIES.register("mse")
def mse(fixed: Tensor, mask: Tensor, *, radius: int = 0) -> MovedLoss:
    r"""Mean squared difference of intensities inside the mask; for images of one scanner and one scale.

    .. math:: \operatorname{mean}_x (m - f)^2

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`.
    mask
        `(batch, 1, *shape)`.
    radius
        Not used; the measure has no window.
    """
    return lambda moved: masked_mean((moved - fixed) ** 2, mask)
