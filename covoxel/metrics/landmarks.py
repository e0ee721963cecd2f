"""Landmarks: how far a transform leaves them from where they are."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covoxel.spatial import Transform


def tre_mm(transform: Transform, fixed_ras: ArrayLike, moving_ras: ArrayLike) -> NDArray[np.float64]:
    """Target registration error of each landmark: distance of its mapped fixed point from its moving point.

    Measured in the space of the moving image, where the transform leads; nothing is inverted and no image is
    interpolated (the displacement is, linearly).

    Parameters
    ----------
    transform
        Fixed to moving.
    fixed_ras, moving_ras
        `(m, n)` RAS+ mm, one row a landmark, in the same order; on the identity this is the error before registration.

    Returns
    -------
    numpy.ndarray
        `(m,)` mm; for a table see `summarise`, which keeps the worst in sight.

    Raises
    ------
    ValueError
        If the two lists do not match, are empty or hold what is no number.

    References
    ----------
    Fitzpatrick and West, The distribution of target registration error in rigid-body point-based registration,
    IEEE TMI 2001.
    """
    fixed, moving = (np.asarray(points, dtype=np.float64) for points in (fixed_ras, moving_ras))
    n = transform.grid.ndim
    if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != n or not len(fixed):
        raise ValueError(
            f"fixed_ras and moving_ras must both be (m, {n}) with m > 0, got {fixed.shape}, {moving.shape}"
        )
    for name, points in (("fixed_ras", fixed), ("moving_ras", moving)):
        if not np.isfinite(points).all():
            row = int(np.argmin(np.isfinite(points).all(1)))
            raise ValueError(f"{name} must be finite, got {points[row].tolist()} in row {row}")
    return np.asarray(np.linalg.norm(transform.map(fixed) - moving, axis=1))
