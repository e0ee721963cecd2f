"""Anti-folding: neighbours that change places along an axis."""

from collections.abc import Sequence

from torch import Tensor

from covoxel.losses.base import REGULARISERS, masked_mean
from covoxel.losses.differences import slopes


@REGULARISERS.register("anti_folding")
def anti_folding(field_vox: Tensor, *, mask: Tensor | None = None, spacing_mm: Sequence[float] | None = None) -> Tensor:
    r"""Mean penalty on slopes below -1 of a component along its own axis; without unit.

    .. math:: \operatorname{mean}_x \sum_i \delta\!\left( \partial_i u_i + 1 \right) (\partial_i u_i)^2, \qquad
              \delta(q) = \max(-q, 0)

    By forward differences: `u_i(x + 1) - u_i(x) + 1 > 0` says that neighbours along axis i keep their order.

    Parameters
    ----------
    field_vox, mask
        As for `covoxel.losses.base.Regulariser`; a displacement.
    spacing_mm
        Not used: along one axis the spacing cancels.

    References
    ----------
    Zhang, Inverse-consistent deep networks for unsupervised deformable image registration, arXiv:1809.03443, 2018.
    """
    total = field_vox.new_zeros(field_vox.shape[0])
    for axis, slope, weight in slopes(field_vox, mask):
        own = slope[:, axis : axis + 1]
        total = total + masked_mean((-own - 1).clamp(min=0) * own**2, weight)
    return total
