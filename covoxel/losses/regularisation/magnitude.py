"""Magnitude: the squared length of a field, its closeness to the identity."""

from collections.abc import Sequence

from torch import Tensor

from covoxel.losses.base import REGULARISERS
from covoxel.losses.differences import lengths, mean_square, weights


@REGULARISERS.register("magnitude")
def magnitude(field_vox: Tensor, *, mask: Tensor | None = None, spacing_mm: Sequence[float] | None = None) -> Tensor:
    r"""Mean squared length of the vectors, voxel² or mm².

    .. math:: \operatorname{mean}_x \lVert u(x) \rVert^2

    On the affine field of a level of a pyramid, with `per_level`, this is that level's closeness to the identity.

    Parameters
    ----------
    field_vox, mask, spacing_mm
        As for `covoxel.losses.base.Regulariser`.

    References
    ----------
    Gunnarsson, Sjölund and Schön, Learning a deformable registration pyramid, MICCAI 2020 challenges, 2021.
    """
    return mean_square(field_vox, weights(field_vox, mask), lengths(field_vox, spacing_mm))
