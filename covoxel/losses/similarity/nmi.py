"""Normalised mutual information of a Parzen-window joint histogram."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.losses.similarity.histogram import JointHistogram, entropy


@SIMILARITIES.register("nmi")
def nmi(fixed: Tensor, mask: Tensor, *, radius: int = 0) -> MovedLoss:
    r"""Two minus normalised mutual information, :math:`2 - (H(f) + H(m)) / H(f, m)`.

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
        Between 0 (one intensity determines the other) and 1 (independent).

    References
    ----------
    Studholme et al., An overlap invariant entropy measure of 3D medical image alignment, Pattern Recognition 1999.
    """
    histogram = JointHistogram(fixed, mask)

    def loss(moved: Tensor) -> Tensor:
        joint = histogram(moved)
        return 2 - (entropy(joint.sum(1)) + entropy(joint.sum(2))) / entropy(joint).clamp(min=1e-6)

    return loss
