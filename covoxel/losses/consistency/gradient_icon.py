"""Gradient-ICON: a round trip may move, but not deform."""

from torch import Tensor

from covoxel.losses.base import CONSISTENCY, RoundTrip
from covoxel.losses.regularisation.diffusion import diffusion
from covoxel.spatial.field import compose


@CONSISTENCY.register("gradient_icon")
def gradient_icon(trip: RoundTrip) -> Tensor:
    r"""Mean squared gradient of the displacement left after a round trip from fixed points, without unit.

    .. math:: \left\lVert \nabla \left[ \Phi_{mf} \circ \Phi_{fm} \right] - I \right\rVert_F^2

    A regulariser in itself: a map whose round trips keep shape has no fold. One direction, as published;
    training draws pairs in both orders.

    Parameters
    ----------
    trip
        Reads `forward_vox`, `backward_vox`, `fixed_mask` and `spacing_mm`.

    References
    ----------
    Tian et al., GradICON: approximate diffeomorphisms via gradient inverse consistency, CVPR 2023.
    """
    left = compose(trip.backward_vox, trip.forward_vox)
    return diffusion(left, mask=trip.fixed_mask, spacing_mm=trip.spacing_mm)
