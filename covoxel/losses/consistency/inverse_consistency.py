"""Inverse consistency: each displacement is about the inverse of the other."""

from torch import Tensor

from covoxel.losses.base import CONSISTENCY, RoundTrip
from covoxel.losses.differences import lengths, mean_square, weights
from covoxel.spatial.field import invert


@CONSISTENCY.register("inverse_consistency")
def inverse_consistency(trip: RoundTrip) -> Tensor:
    r"""Mean squared difference of each displacement from the inverse of the other one, voxel² or mm².

    .. math:: \lVert u_{fm} - \tilde u_{fm} \rVert^2 + \lVert u_{mf} - \tilde u_{mf} \rVert^2, \qquad
              \tilde u_{fm}(x) = -u_{mf}(x - u_{mf}(x))

    The inverse is one step of a fixed point, exact for a translation and right to first order elsewhere;
    `invertibility` asks the same without an approximation.

    Parameters
    ----------
    trip
        Reads `forward_vox`, `backward_vox`, the masks and `spacing_mm`.

    References
    ----------
    Zhang, Inverse-consistent deep networks for unsupervised deformable image registration, arXiv:1809.03443, 2018.
    """
    forward, backward = trip.forward_vox, trip.backward_vox
    scale = lengths(forward, trip.spacing_mm)
    there = mean_square(forward - invert(backward, iterations=1), weights(forward, trip.fixed_mask), scale)
    return there + mean_square(backward - invert(forward, iterations=1), weights(backward, trip.moving_mask), scale)
