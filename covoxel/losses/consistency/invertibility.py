"""Invertibility: there and back is where one was."""

from torch import Tensor

from covoxel.losses.base import CONSISTENCY, RoundTrip
from covoxel.losses.differences import lengths, mean_square, weights
from covoxel.spatial.field import compose


@CONSISTENCY.register("invertibility")
def invertibility(trip: RoundTrip) -> Tensor:
    r"""Mean squared length of both round trips, voxel² or mm².

    .. math:: \lVert u_{mf} * u_{fm} \rVert^2 + \lVert u_{fm} * u_{mf} \rVert^2, \qquad
              (u * v)(x) = v(x) + u(x + v(x))

    Parameters
    ----------
    trip
        Reads `forward_vox`, `backward_vox`, the masks and `spacing_mm`.

    References
    ----------
    Zhao et al., Unsupervised 3D end-to-end medical image registration with volume tweening network, IEEE JBHI 2020.
    """
    forward, backward = trip.forward_vox, trip.backward_vox
    scale = lengths(forward, trip.spacing_mm)
    there = mean_square(compose(backward, forward), weights(forward, trip.fixed_mask), scale)
    return there + mean_square(compose(forward, backward), weights(backward, trip.moving_mask), scale)
