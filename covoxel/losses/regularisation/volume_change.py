"""Volume change: the logarithm of the Jacobian determinant."""

from collections.abc import Sequence

from torch import Tensor

from covoxel.losses.base import REGULARISERS, masked_mean
from covoxel.losses.differences import everywhere, weights
from covoxel.losses.regularisation.determinants import determinant_of


def volume_change(
    field_vox: Tensor,
    *,
    mask: Tensor | None = None,
    spacing_mm: Sequence[float] | None = None,
    least: float = 0.1,
) -> Tensor:
    r"""Mean squared logarithm of the determinant: to double a volume costs as much as to halve it; without unit.

    .. math:: \operatorname{mean}_x \log^2 \det J(x)

    Parameters
    ----------
    field_vox, mask
        As for `covoxel.losses.base.Regulariser`; a displacement. A mask makes it the incompressibility of one tissue.
    spacing_mm
        Not used: a determinant is the same in voxels and in millimetres.
    least
        Determinant below which the logarithm goes on as a straight line, so that a fold costs more the deeper it is
        and there is a way back.

    References
    ----------
    Rohlfing et al., Volume-preserving nonrigid registration of MR breast images using free-form deformation with an
    incompressibility constraint, IEEE TMI 2003 (which sums absolute logarithms).
    """
    determinant = determinant_of(field_vox)
    above = determinant.clamp(min=least)
    logarithm = above.log() + (determinant - above) / least
    return masked_mean(logarithm**2, everywhere(weights(field_vox, mask)))


REGULARISERS.register("volume_change")(volume_change)
