"""Mutual information and quiet background: where the fixed image is empty, the moved one must be."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss, masked_mean
from covoxel.losses.similarity.mi import mi


def background_suppression(
    fixed: Tensor, mask: Tensor, *, radius: int = 0, threshold: float = 0.1, weight: float = 1.0
) -> MovedLoss:
    r"""Loss of `mi`, and squared differences on background; for contrasts whose background is empty in both.

    .. math:: H(f) - I(f, m) + \beta \operatorname{mean}_x [f < \gamma] (m - f)^2

    Mutual information alone does not mind where the background of one image lies on tissue of the other.

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1.
    mask
        `(batch, 1, *shape)`.
    radius
        Not used; a global measure has no window.
    threshold
        Intensity below which a voxel is background, the `γ` of the formula, from the statistics of the data set.
    weight
        The `β` of the formula.

    Returns
    -------
    MovedLoss
        As `mi` where the background is equal, larger elsewhere.

    References
    ----------
    Huang et al., A coarse-to-fine deformable transformation framework for unsupervised multi-contrast MR image
    registration with dual consistency constraint, IEEE TMI 2021.
    """
    information = mi(fixed, mask, radius=radius)
    background = background_difference(fixed, mask, threshold=threshold)
    return lambda moved: information(moved) + weight * background(moved)


def background_difference(fixed: Tensor, mask: Tensor, *, threshold: float = 0.1) -> MovedLoss:
    """The second term alone, to go with another measure; 0 where the fixed image has no background."""
    background = fixed < threshold
    return lambda moved: masked_mean((moved - fixed) ** 2 * background, mask)


SIMILARITIES.register("background_suppression")(background_suppression)
