"""Mid-space: the pose, size and shear half-way between all cases, and the grid of a template there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covoxel.spatial import Grid


@dataclass(frozen=True, eq=False)
class MidSpace:
    """Grid of a template in the mid-space, and the matrices from there to each case.

    Parameters
    ----------
    grid
        Axes along R, A, S; spacing and field of view are medians over the cases.
    moving_from_template
        `(n + 1, n + 1)` matrices, RAS+ mm, by id; their exponential barycentre is the identity.
    """

    grid: Grid
    moving_from_template: Mapping[str, NDArray[np.float64]]


def barycentre(matrices: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Exponential barycentre of invertible affine matrices `(n + 1, n + 1)`: the M with `mean(log(M^-1 M_i)) = 0`.

    Raises
    ------
    ValueError
        If the matrices lie too far apart to have one.

    References
    ----------
    Pennec and Arsigny, Exponential barycenters of the canonical Cartan connection and invariant means on Lie groups,
    2013.
    """
    raise NotImplementedError


def mid_space(moving_from_reference: Mapping[str, NDArray[np.float64]], grids: Mapping[str, Grid]) -> MidSpace:
    """The mid-space of cases by their matrices from any common reference and by their own grids; no case is favoured.

    Raises
    ------
    ValueError
        If the matrices lie too far apart to have a barycentre.
    """
    raise NotImplementedError
