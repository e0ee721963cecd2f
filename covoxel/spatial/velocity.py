"""Stationary velocity fields: the exponential by scaling and squaring, and the logarithm."""

import math

from torch import Tensor

from covoxel.spatial.field import compose


def exp(velocity_vox: Tensor, *, squarings: int | None = None) -> Tensor:
    """Displacement after unit time of the flow of a stationary velocity field.

    Parameters
    ----------
    velocity_vox
        `(batch, n, *shape)`, voxels per unit time. `exp(-velocity_vox)` is the inverse.
    squarings
        Number of squarings; by default so many that the first step is at most a quarter voxel anywhere.
        Each costs one warp of n channels.

    Returns
    -------
    Tensor
        Displacement in voxels, `(batch, n, *shape)`.

    References
    ----------
    Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006.
    """
    if squarings is None:
        squarings = squarings_for(float(velocity_vox.detach().abs().max()))
    displacement = velocity_vox * 0.5**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement


def squarings_for(largest_vox: float, first_step_vox: float = 0.25) -> int:
    """Squarings after which a velocity of `largest_vox` starts with a step of at most `first_step_vox`."""
    return max(1, math.ceil(math.log2(max(largest_vox, 1e-9) / first_step_vox)))


def log(displacement_vox: Tensor, *, iterations: int = 10) -> Tensor:
    """Stationary velocity whose exponential is a displacement, as far as there is one.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *shape)`, voxels; must not fold.
    iterations
        Each costs an exponential and a warp. What the displacement has beyond the exponential of the velocity so far
        is added to it, the first order of Baker, Campbell and Hausdorff.

    References
    ----------
    Bossa and Olmos, A new algorithm for the computation of the group logarithm of diffeomorphisms, MFCA 2008.
    """
    velocity = displacement_vox
    for _ in range(iterations):
        velocity = velocity + compose(exp(-velocity), displacement_vox)
    return velocity
