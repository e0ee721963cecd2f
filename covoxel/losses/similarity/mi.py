"""Mutual information of a Parzen-window joint histogram."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.losses.similarity.histogram import JointHistogram, entropy


@SIMILARITIES.register("mi")
def mi(fixed: Tensor, mask: Tensor, *, radius: int = 0) -> MovedLoss:
    r"""Entropy of the fixed image less mutual information, :math:`H(f) - I(f, m) = H(f, m) - H(m)`, in nats.

    The entropy of the fixed image is constant, so this is minimised where mutual information is largest; what is left
    is what the moved image does not tell of the fixed one. (Published sums that print `+ MI` mean `- MI`.)

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1; values outside count as 0 or 1.
    mask
        `(batch, 1, *shape)`.
    radius
        Not used; a global measure has no window.

    Returns
    -------
    MovedLoss
        From about 0 (the moved intensity determines the fixed one; windows that overlap leave a rest) to H(f), at most
        log 32, for images that tell nothing of each other.

    References
    ----------
    Viola and Wells, Alignment by maximization of mutual information, IJCV 1997.
    """
    histogram = JointHistogram(fixed, mask)

    def loss(moved: Tensor) -> Tensor:
        joint = histogram(moved)
        return entropy(joint) - entropy(joint.sum(1))

    return loss
