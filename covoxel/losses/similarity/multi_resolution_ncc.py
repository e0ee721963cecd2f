"""Local correlation at several resolutions: coarse levels see farther than the window of the finest."""

from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss
from covoxel.losses.similarity.lncc import lncc
from covoxel.spatial.smoothing import cell_means


def multi_resolution_ncc(fixed: Tensor, mask: Tensor, *, radius: int = 3, levels: int = 3) -> MovedLoss:
    r"""Weighted mean of `lncc` over `levels` resolutions, each coarser one with half the weight.

    .. math:: \frac{\sum_{i=1}^{L} 2^{-(L-i)} \operatorname{lncc}(f_i, m_i)}{\sum_{i=1}^{L} 2^{-(L-i)}}

    where level L is the image itself and each one below it the mean of the masked voxels of cells of two a side.
    The published sum is of negative correlations and is not divided; the minimum is the same.

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1.
    mask
        `(batch, 1, *shape)`.
    radius
        Half-width of the window on every level, in voxels of that level.
    levels
        Number of resolutions, L.

    Returns
    -------
    MovedLoss
        0 for a local affine map of intensities, 1 for none.

    References
    ----------
    Mok and Chung, Affine medical image registration with coarse-to-fine vision transformer, CVPR 2022.
    """
    masks, images, losses = [mask], [fixed.expand(mask.shape[0], *fixed.shape[1:])], [lncc(fixed, mask, radius=radius)]
    for _ in range(levels - 1):
        images.append(_halved(images[-1], masks[-1]))
        masks.append(cell_means(masks[-1], _two(masks[-1])))
        losses.append(lncc(images[-1], masks[-1], radius=radius))
    weights = [0.5**level for level in range(levels)]

    def loss(moved: Tensor) -> Tensor:
        total = losses[0](moved)
        for level in range(1, levels):
            moved = _halved(moved, masks[level - 1])
            total = total + weights[level] * losses[level](moved)
        return total / sum(weights)

    return loss


def _two(x: Tensor) -> list[int]:
    return [min(2, side) for side in x.shape[2:]]


def _halved(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of masked voxels over cells of two voxels a side; 0 where there is none."""
    return cell_means(x * mask, _two(x)) / cell_means(mask, _two(x)).clamp(min=1e-3)


SIMILARITIES.register("multi_resolution_ncc")(multi_resolution_ncc)
