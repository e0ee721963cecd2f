"""Which affine maps anatomy can ask for: a scale or a change of volume beyond is refused."""

import numpy as np
from numpy.typing import NDArray

LARGEST_STRETCH = 2.0
"""Along any direction, and its inverse the least. People's hippocampi, mice with and without atrophy, and adult brains
take 0.84 to 1.18, a newborn's brain and an adult's 1.5."""
LARGEST_VOLUME = 3.5
"""Times the volume, and its inverse the least. As above 0.78 to 1.15, and a newborn's brain 3.3."""


def implausible(moving_from_fixed: NDArray[np.float64]) -> str:
    """What no anatomy does of an affine map, in words that follow "the affine part"; empty if there is no such thing.

    Parameters
    ----------
    moving_from_fixed
        `(n + 1, n + 1)` in RAS+ mm; finite.
    """
    linear = moving_from_fixed[:-1, :-1]
    stretches = np.linalg.svd(linear, compute_uv=False)
    volume = float(np.prod(stretches))
    if np.linalg.det(linear) <= 0:
        return "mirrors"
    if max(volume, 1 / volume) > LARGEST_VOLUME:
        return f"changes volumes by a factor of {volume:.2g}"
    most = max(stretches, key=lambda stretch: abs(np.log(stretch)))
    if max(most, 1 / most) > LARGEST_STRETCH:
        return f"scales by {most:.2g}"
    return ""
