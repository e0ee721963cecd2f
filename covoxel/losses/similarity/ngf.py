"""Normalised gradient fields: edges that point the same way, whatever the contrast."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss, masked_mean
from covoxel.losses.differences import central, everywhere


def ngf(fixed: Tensor, mask: Tensor, *, radius: int = 0, edge: float = 0.02) -> MovedLoss:
    r"""One minus the mean squared cosine between the gradients of both images; for images of different modalities.

    .. math:: \operatorname{mean}_x 1 - \frac{(\nabla f \cdot \nabla m)^2}
              {(|\nabla f|^2 + \epsilon^2)(|\nabla m|^2 + \epsilon^2)}

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1.
    mask
        `(batch, 1, *shape)`; a gradient counts if the voxels it is taken from do.
    radius
        Not used; gradients are central differences, per voxel. Voxels that are no cubes bend directions.
    edge
        Intensity per voxel below which a gradient is taken for noise, the `ε` of the formula.

    Returns
    -------
    MovedLoss
        Least where edges coincide, though not 0 there: what is flat counts 1.

    References
    ----------
    Haber and Modersitzki, Intensity gradient based registration and fusion of multi-modal images, MICCAI 2006.
    """
    gradient = central(fixed)
    square = (gradient**2).sum(1, keepdim=True) + edge**2
    inside = everywhere(mask)

    def loss(moved: Tensor) -> Tensor:
        other = central(moved)
        product = (gradient * other).sum(1, keepdim=True)
        other_square = (other**2).sum(1, keepdim=True) + edge**2
        return masked_mean(1 - product**2 / (square * other_square), inside)

    return loss


SIMILARITIES.register("ngf")(ngf)
