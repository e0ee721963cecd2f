"""Diffusion: the squared gradient of a field."""

from collections.abc import Sequence

from torch import Tensor

from covoxel.losses.base import REGULARISERS
from covoxel.losses.differences import lengths, mean_square, slopes


@REGULARISERS.register("diffusion")
def diffusion(field_vox: Tensor, *, mask: Tensor | None = None, spacing_mm: Sequence[float] | None = None) -> Tensor:
    r"""Mean squared gradient, all components and axes summed; without unit.

    .. math:: \operatorname{mean}_x \sum_{c,d} \left( \frac{\partial u_c}{\partial x_d} \right)^2

    By forward differences, each averaged over the pairs of neighbours that it has. Zero for a translation.

    Parameters
    ----------
    field_vox, mask, spacing_mm
        As for `covoxel.losses.base.Regulariser`. A slope has no unit; `spacing_mm` matters where voxels are no cubes.

    References
    ----------
    Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image registration, IEEE TMI 2019
    (which divides by the number of axes and components as well).
    """
    scale = lengths(field_vox, spacing_mm)
    total = field_vox.new_zeros(field_vox.shape[0])
    for axis, slope, weight in slopes(field_vox, mask):
        total = total + mean_square(slope, weight, scale / scale[axis])
    return total
