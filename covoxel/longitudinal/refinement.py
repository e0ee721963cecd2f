"""Small displacements between two images that nearly agree, by Gauss and Newton: what a subject's visits differ by."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from covoxel.longitudinal.intensity import slope_of
from covoxel.spatial.smoothing import gaussian

_SIGMA_VOX = 0.7
"""Smoothing of both images alike before they are compared: voxel noise has gradients that no structure has."""
_LOCAL_VOX = 2.0
"""Window of the mean that is taken off both images: wider than a border, narrower than a bias field."""
_MAD_TO_SD = 1.4826
_LEAST_SD = 0.01
"""Of intensities of 0 to 1: never is an image trusted more than that, for gains are not evened out any better."""


def small_displacement(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor,
    *,
    spacing_mm: Sequence[float],
    strain: float = 0.1,
    iterations: int = 20,
) -> Tensor:
    r"""The displacement `w` by which `moved(x + w)` agrees better with `fixed`, one step of Gauss and Newton.

    Least over w of :math:`\sum_x (m + g \cdot w - f)^2 / \sigma^2 + |\nabla w|^2 / s^2`, with g the mean of the
    gradients of both images, which favours neither, and :math:`\sigma` the robust standard deviation of `m - f`.
    Repeated steps, each penalised alone, approach the unpenalised answer where the images say much, first of all at
    the borders of structures.

    Parameters
    ----------
    fixed, moved
        `(1, 1, *shape)` intensities, equal up to noise and small displacements.
    mask
        `(1, 1, *shape)` 0 or 1, where both are known.
    spacing_mm
        Of the grid, for the gradients of w to be strains.
    strain
        s, the change of w over its distance that is still usual.
    iterations
        Of conjugate gradients.

    Returns
    -------
    Tensor
        `(1, n, *shape)`, voxels.

    References
    ----------
    Horn and Schunck, Determining optical flow, Artificial Intelligence 1981; Thirion, Image matching as a diffusion
    process, Med Image Anal 1998 (the mean of both gradients).
    """
    sigma = [_SIGMA_VOX if side > 1 else 0.0 for side in fixed.shape[2:]]
    a, b = (_without_local_mean(gaussian(image, sigma), mask) for image in (fixed, moved))
    difference = (a - b) * mask
    inside = difference[mask > 0]
    noise = _MAD_TO_SD * float(inside.abs().median()) if inside.numel() else 1.0
    weight = strain**2 / max(noise, _LEAST_SD) ** 2
    slope = 0.5 * slope_of(a + b) * mask
    relative = [float(s) / float(min(spacing_mm)) for s in spacing_mm]

    def normal(w: Tensor) -> Tensor:
        return weight * slope * (slope * w).sum(1, keepdim=True) + _stiffness(w, relative)

    preconditioner = (weight * slope.square() + 2 * sum(r**-2 for r in relative)).reciprocal()
    return _conjugate_gradients(normal, weight * slope * difference, preconditioner, iterations)


def _without_local_mean(image: Tensor, mask: Tensor) -> Tensor:
    """What an image has more than the masked mean around: a gain or offset that varies slowly shifts no border then."""
    sigma = [_LOCAL_VOX if side > 1 else 0.0 for side in image.shape[2:]]
    return image - gaussian(image * mask, sigma) / gaussian(mask, sigma).clamp(min=1e-3)


def _stiffness(w: Tensor, relative: Sequence[float]) -> Tensor:
    """Minus the Laplacian of each component of w, free at the border; `relative` is the spacing over the least."""
    result = torch.zeros_like(w)
    for axis, spacing in enumerate(relative, start=2):
        if w.shape[axis] > 1:
            step = w.diff(dim=axis) / spacing**2
            side = step.shape[axis]
            result.narrow(axis, 0, side).sub_(step)
            result.narrow(axis, 1, side).add_(step)
    return result


def _conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], right: Tensor, preconditioner: Tensor, iterations: int
) -> Tensor:
    """Solution of `matrix(x) = right` from 0, `iterations` steps or until nothing is left."""
    x, residual = torch.zeros_like(right), right.clone()
    z = preconditioner * residual
    direction, energy = z.clone(), float((residual * z).sum())
    least = 1e-8 * energy
    for _ in range(iterations):
        if energy <= least:
            break
        turned = matrix(direction)
        step = energy / float((direction * turned).sum())
        x.add_(direction, alpha=step)
        residual.sub_(turned, alpha=step)
        z = preconditioner * residual
        before, energy = energy, float((residual * z).sum())
        direction = z + direction * (energy / before)
    return x
