"""Affine transforms as translation, rotation, scale and shear about a centre; RAS+ mm only."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AffineParameters:
    """Parts of the map `x -> R S H (x - centre) + centre + translation`, each with a leading batch axis.

    Parameters
    ----------
    translation_mm
        `(batch, n)`.
    rotation_rad
        `(batch, 3)` axis times angle (right-handed), or `(batch, 1)` in 2-D.
    log_scale
        `(batch, n)` natural logarithm of the scale along each axis.
    shear
        `(batch, n (n - 1) / 2)` entries above the diagonal of the unit triangular H, row by row.
    """

    translation_mm: Tensor
    rotation_rad: Tensor
    log_scale: Tensor
    shear: Tensor

    @classmethod
    def identity(cls, batch: int, ndim: int) -> "AffineParameters":
        """Parameters of the identity, float32."""
        pairs = ndim * (ndim - 1) // 2
        zeros = [torch.zeros(batch, width) for width in (ndim, pairs, ndim, pairs)]
        return cls(*zeros)

    def map(self, change: Callable[[Tensor], Tensor]) -> "AffineParameters":
        """The parameters with `change` done to each part."""
        return AffineParameters(*(change(getattr(self, item.name)) for item in fields(self)))

    def zip(self, other: "AffineParameters", join: Callable[[Tensor, Tensor], Tensor]) -> "AffineParameters":
        """The parameters joined with those of another, part by part."""
        return AffineParameters(*(join(getattr(self, i.name), getattr(other, i.name)) for i in fields(self)))

    def matrix(self, centre_ras: ArrayLike) -> Tensor:
        """`(batch, n + 1, n + 1)` matrix of the map about `centre_ras`, `(n,)` mm; differentiable."""
        n = self.translation_mm.shape[1]
        centre = torch.as_tensor(np.asarray(centre_ras, dtype=np.float64)).to(self.translation_mm)
        linear = rotation_matrix(self.rotation_rad) * self.log_scale.exp()[:, None, :] @ self._shear_matrix()
        offset = self.translation_mm + centre - linear @ centre
        top = torch.cat([linear, offset[:, :, None]], 2)
        bottom = torch.cat([top.new_zeros(n), top.new_ones(1)]).expand(top.shape[0], 1, n + 1)
        return torch.cat([top, bottom], 1)

    def _shear_matrix(self) -> Tensor:
        n = self.translation_mm.shape[1]
        rows, columns = torch.triu_indices(n, n, 1, device=self.shear.device)
        unit = torch.eye(n, dtype=self.shear.dtype, device=self.shear.device).expand(self.shear.shape[0], n, n).clone()
        unit[:, rows, columns] = self.shear
        return unit


def rotation_matrix(rotation_rad: Tensor) -> Tensor:
    """`(batch, n, n)` rotation of vectors `(batch, 3)` (axis times angle) or angles `(batch, 1)`; differentiable."""
    if rotation_rad.shape[1] == 1:
        cosine, sine = rotation_rad.cos()[:, 0], rotation_rad.sin()[:, 0]
        return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    x, y, z = rotation_rad.unbind(1)
    o = torch.zeros_like(x)
    skew = torch.stack([torch.stack([o, -z, y], 1), torch.stack([z, o, -x], 1), torch.stack([-y, x, o], 1)], 1)
    rotation: Tensor = torch.linalg.matrix_exp(skew)
    return rotation


def decompose(matrix: NDArray[np.float64], centre_ras: ArrayLike) -> AffineParameters:
    """Translation, rotation, scale and shear, batch of one and float64, of an `(n + 1, n + 1)` matrix.

    Raises
    ------
    ValueError
        If the matrix mirrors or is singular: then it is no product of a rotation, a scale and a shear.
    """
    n = matrix.shape[0] - 1
    linear, centre = matrix[:n, :n], np.asarray(centre_ras, dtype=np.float64)
    if np.linalg.det(linear) <= 0:
        raise ValueError(f"matrix must have a positive determinant, got {np.linalg.det(linear):.3g}")
    rotation, upper = np.linalg.qr(linear)
    signs = np.sign(np.diag(upper))
    rotation, upper = rotation * signs, upper * signs[:, None]
    scale = np.diag(upper)
    translation = matrix[:n, n] - centre + linear @ centre
    parts = (translation, _rotation_vector(rotation), np.log(scale), (upper / scale[:, None])[np.triu_indices(n, 1)])
    return AffineParameters(*(torch.as_tensor(part)[None] for part in parts))


def _rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    if rotation.shape == (2, 2):
        return np.array([np.arctan2(rotation[1, 0], rotation[0, 0])])
    return np.asarray(Rotation.from_matrix(rotation).as_rotvec())
