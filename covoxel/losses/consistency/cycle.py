"""Cycle: both images, warped and warped back, are themselves."""

from torch import Tensor

from covoxel.losses.base import CONSISTENCY, RoundTrip, masked_mean
from covoxel.losses.differences import weights
from covoxel.spatial import warp


@CONSISTENCY.register("cycle")
def cycle(trip: RoundTrip) -> Tensor:
    r"""Mean absolute difference of each image and itself after a round trip, in units of intensity.

    .. math:: \lVert (m \circ \Phi_{fm}) \circ \hat\Phi_{mf} - m \rVert_1
              + \lVert (f \circ \Phi_{mf}) \circ \hat\Phi_{fm} - f \rVert_1

    Parameters
    ----------
    trip
        Reads `fixed`, `moving`, the four displacements there and back (the second ones, with a hat, are those of the
        images already moved) and the masks.

    Raises
    ------
    ValueError
        If an image is not given.

    References
    ----------
    Kim et al., CycleMorph: cycle consistent unsupervised deformable image registration, Med Image Anal 2021.
    """
    fixed, moving = trip.need("fixed"), trip.need("moving")
    second_forward = trip.forward_vox if trip.second_forward_vox is None else trip.second_forward_vox
    second_backward = trip.backward_vox if trip.second_backward_vox is None else trip.second_backward_vox
    moving_back = warp(warp(moving, trip.forward_vox), second_backward)
    fixed_back = warp(warp(fixed, trip.backward_vox), second_forward)
    there = masked_mean((moving_back - moving).abs(), weights(moving, trip.moving_mask))
    return there + masked_mean((fixed_back - fixed).abs(), weights(fixed, trip.fixed_mask))
