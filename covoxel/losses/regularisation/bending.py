"""Bending energy: the squared second derivatives of a field."""

from collections.abc import Sequence

from torch import Tensor

from covoxel.losses.base import REGULARISERS
from covoxel.losses.differences import lengths, mean_square, pairwise, slopes


@REGULARISERS.register("bending")
def bending(field_vox: Tensor, *, mask: Tensor | None = None, spacing_mm: Sequence[float] | None = None) -> Tensor:
    r"""Mean squared second derivatives, all components summed and mixed ones twice; 1 / voxel² or 1 / mm².

    .. math:: \frac{1}{V} \int \sum_c \sum_{d,e} \left( \frac{\partial^2 u_c}{\partial x_d \partial x_e} \right)^2

    By differences of forward differences, each averaged over the voxels where it exists. Zero for an affine field.

    Parameters
    ----------
    field_vox, mask, spacing_mm
        As for `covoxel.losses.base.Regulariser`.

    References
    ----------
    Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 1999.
    """
    scale = lengths(field_vox, spacing_mm)
    total = field_vox.new_zeros(field_vox.shape[0])
    for axis, slope, weight in slopes(field_vox, mask):
        for other in range(axis, field_vox.ndim - 2):
            if slope.shape[2 + other] > 1:
                curvature, inside = slope.diff(dim=2 + other), pairwise(weight, other)
                times = 1 if other == axis else 2
                total = total + times * mean_square(curvature, inside, scale / (scale[axis] * scale[other]))
    return total
