"""Negative Jacobian determinants: volume that is turned inside out."""

from collections.abc import Sequence

from torch import Tensor

from covoxel.losses.base import REGULARISERS, masked_mean
from covoxel.losses.differences import everywhere, weights
from covoxel.losses.regularisation.determinants import determinant_of


def negative_jacobian(
    field_vox: Tensor,
    *,
    mask: Tensor | None = None,
    spacing_mm: Sequence[float] | None = None,
    least: float = 0.0,
) -> Tensor:
    r"""Mean of what determinants fall short of `least`; without unit.

    .. math:: \operatorname{mean}_x \max(d_0 - \det J(x), 0)

    By central differences, which see no fold that alternates from voxel to voxel; `anti_folding` does.

    Parameters
    ----------
    field_vox, mask
        As for `covoxel.losses.base.Regulariser`; a displacement.
    spacing_mm
        Not used: a determinant is the same in voxels and in millimetres.
    least
        Determinant from which there is no penalty, below 1.

    References
    ----------
    Mok and Chung, Fast symmetric diffeomorphic image registration with convolutional neural networks, CVPR 2020.
    """
    shortfall = (least - determinant_of(field_vox)).clamp(min=0)
    return masked_mean(shortfall, everywhere(weights(field_vox, mask)))


REGULARISERS.register("negative_jacobian")(negative_jacobian)
