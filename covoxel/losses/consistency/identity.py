"""Identity: an image registered to itself stays where it is."""

from torch import Tensor

from covoxel.losses.base import CONSISTENCY, SIMILARITIES, RoundTrip
from covoxel.losses.differences import weights
from covoxel.spatial import warp


def identity(trip: RoundTrip, *, similarity: str = "lncc", radius: int = 4) -> Tensor:
    r"""Dissimilarity of each image and itself, warped by what the network makes of the image and itself.

    .. math:: D(f \circ \Phi_{ff}, f) + D(m \circ \Phi_{mm}, m)

    where D is one minus the local correlation (published as a sum of negative correlations).

    Parameters
    ----------
    trip
        Reads `fixed`, `moving`, `fixed_to_itself_vox`, `moving_to_itself_vox` and the masks.
    similarity, radius
        A name of `SIMILARITIES` and the half-width of its window.

    Raises
    ------
    ValueError
        If an image or a displacement onto itself is not given.

    References
    ----------
    Kim et al., CycleMorph: cycle consistent unsupervised deformable image registration, Med Image Anal 2021.
    """
    compare = SIMILARITIES[similarity]
    fixed, moving = trip.need("fixed"), trip.need("moving")
    fixed_again, moving_again = (
        warp(fixed, trip.need("fixed_to_itself_vox")),
        warp(moving, trip.need("moving_to_itself_vox")),
    )
    there = compare(fixed, weights(fixed, trip.fixed_mask), radius=radius)(fixed_again)
    return there + compare(moving, weights(moving, trip.moving_mask), radius=radius)(moving_again)


CONSISTENCY.register("identity")(identity)
