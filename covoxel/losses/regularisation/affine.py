"""Penalties on an affine map that is far from a rotation, changes volume, or moves far."""

import torch
from torch import Tensor

from covoxel.losses.base import AFFINE_REGULARISERS


@AFFINE_REGULARISERS.register("orthogonality")
def orthogonality(moving_from_fixed: Tensor) -> Tensor:
    r"""Distance of the linear part from a rotation or a mirror; without unit.

    .. math:: -2n + \sum_i \left( \lambda_i^2 + \lambda_i^{-2} \right)
              = \lVert A \rVert_F^2 + \lVert A^{-1} \rVert_F^2 - 2n

    with singular values λ, in n dimensions (`-6` in 3-D). From the inverse and not from singular values, whose
    vectors have no gradient where two are equal, as at the identity. Finite, and large, for a singular matrix.

    Parameters
    ----------
    moving_from_fixed
        As for `covoxel.losses.base.AffineRegulariser`.

    References
    ----------
    Zhao et al., Unsupervised 3D end-to-end medical image registration with volume tweening network, IEEE JBHI 2020.
    """
    linear = linear_part(moving_from_fixed)
    n = linear.shape[-1]
    cofactors = _cofactors(linear)
    determinant = (linear[:, 0] * cofactors[:, 0]).sum(1)
    inverse_square = (cofactors**2).sum((1, 2)) / (determinant**2).clamp(min=1e-6)
    return (linear**2).sum((1, 2)) + inverse_square - 2 * n


@AFFINE_REGULARISERS.register("determinant")
def determinant(moving_from_fixed: Tensor) -> Tensor:
    r"""Squared change of volume, :math:`(\det A - 1)^2`; 4 for a mirror. Without unit.

    Parameters
    ----------
    moving_from_fixed
        As for `covoxel.losses.base.AffineRegulariser`.

    References
    ----------
    Zhao et al., Unsupervised 3D end-to-end medical image registration with volume tweening network, IEEE JBHI 2020.
    """
    linear = linear_part(moving_from_fixed)
    return ((linear[:, 0] * _cofactors(linear)[:, 0]).sum(1) - 1) ** 2


def closeness(moving_from_fixed: Tensor, *, radius_mm: float = 80.0) -> Tensor:
    r"""Mean squared displacement of the points of a ball about the world's origin, mm².

    .. math:: \lVert t \rVert^2 + \frac{R^2}{n + 2} \lVert A - I \rVert_F^2

    Parameters
    ----------
    moving_from_fixed
        As for `covoxel.losses.base.AffineRegulariser`.
    radius_mm
        Radius R of the ball, about that of a head by default.

    References
    ----------
    Jenkinson, Measuring transformation error by RMS deviation, FMRIB technical report TR99MJ1, 1999.
    """
    linear = linear_part(moving_from_fixed)
    n = linear.shape[-1]
    turned = linear - torch.eye(n, dtype=linear.dtype, device=linear.device)
    return (moving_from_fixed[:, :n, n] ** 2).sum(1) + radius_mm**2 / (n + 2) * (turned**2).sum((1, 2))


def linear_part(moving_from_fixed: Tensor) -> Tensor:
    """The matrix without translation, `(batch, n, n)`.

    Raises
    ------
    ValueError
        If the matrices are not `(batch, n or n + 1, n + 1)` with n 2 or 3.
    """
    n = moving_from_fixed.shape[-1] - 1
    if moving_from_fixed.ndim != 3 or n not in (2, 3) or moving_from_fixed.shape[1] not in (n, n + 1):
        raise ValueError(f"moving_from_fixed must be (batch, n or n + 1, n + 1), got {tuple(moving_from_fixed.shape)}")
    return moving_from_fixed[:, :n, :n]


def _cofactors(linear: Tensor) -> Tensor:
    """Transposed adjugate, `(batch, n, n)`: divided by the determinant, the transposed inverse."""
    if linear.shape[-1] == 2:
        (a, b), (c, d) = (linear[:, row].unbind(1) for row in range(2))
        return torch.stack([torch.stack([d, -c], 1), torch.stack([-b, a], 1)], 1)
    first, second, third = linear.unbind(1)
    rows = [torch.linalg.cross(second, third), torch.linalg.cross(third, first), torch.linalg.cross(first, second)]
    return torch.stack(rows, 1)


AFFINE_REGULARISERS.register("closeness")(closeness)
