"""Dual consistency: the moving image, warped and warped back, is the moving image."""

from torch import Tensor

from covoxel.losses.base import CONSISTENCY, SIMILARITIES, RoundTrip
from covoxel.losses.differences import weights
from covoxel.spatial import warp


def dual_consistency(trip: RoundTrip, *, similarity: str = "mse", radius: int = 4) -> Tensor:
    r"""Dissimilarity of the moving image and itself after a round trip.

    .. math:: D\left( (m \circ \Phi_{fm}) \circ \Phi_{mf}, \; m \right)

    Parameters
    ----------
    trip
        Reads `moving`, `forward_vox`, `backward_vox` and `moving_mask`.
    similarity, radius
        A name of `SIMILARITIES` and the half-width of its window; "mse" and "ncc" are published.

    Raises
    ------
    ValueError
        If `moving` is not given.

    References
    ----------
    Huang et al., A coarse-to-fine deformable transformation framework for unsupervised multi-contrast MR image
    registration with dual consistency constraint, IEEE TMI 2021.
    """
    moving = trip.need("moving")
    back = warp(warp(moving, trip.forward_vox), trip.backward_vox)
    return SIMILARITIES[similarity](moving, weights(moving, trip.moving_mask), radius=radius)(back)


CONSISTENCY.register("dual_consistency")(dual_consistency)
