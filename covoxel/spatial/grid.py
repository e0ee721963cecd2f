"""Grid: where the voxels of an image lie in the world (RAS+, millimetres)."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape of an image and the matrix that places its voxel centres in the world.

    Parameters
    ----------
    shape
        Number of voxels along i, j (and k), in NIfTI order.
    ras_from_voxel
        `(n + 1, n + 1)` matrix, voxel index to RAS+ mm; index 0 is the centre of the first voxel.
        A 2-D grid has a `(3, 3)` matrix and its world is the R-A plane.

    Raises
    ------
    ValueError
        If a side is not positive, or the matrix has another size, is not finite or is singular.
    """

    shape: tuple[int, ...]
    ras_from_voxel: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        matrix = np.array(self.ras_from_voxel, dtype=np.float64)
        n = len(self.shape)
        if n not in (2, 3) or min(self.shape) < 1:
            raise ValueError(f"shape must be 2 or 3 positive sides, got {self.shape}")
        if matrix.shape != (n + 1, n + 1):
            raise ValueError(f"ras_from_voxel must be {(n + 1, n + 1)}, got {matrix.shape}")
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:n, :n])) < 1e-12:
            raise ValueError(f"ras_from_voxel must be finite and invertible, got {matrix.tolist()}")
        matrix.setflags(write=False)
        object.__setattr__(self, "ras_from_voxel", matrix)

    @classmethod
    def from_spacing(cls, shape: tuple[int, ...], spacing_mm: ArrayLike = 1.0) -> Self:
        """Grid along the axes of the world whose middle is the origin; `spacing_mm` per axis or one for all."""
        n = len(shape)
        spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (n,))
        matrix = np.diag([*spacing, 1.0])
        matrix[:n, n] = -spacing * (np.asarray(shape) - 1) / 2
        return cls(shape, matrix)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @cached_property
    def voxel_from_ras(self) -> NDArray[np.float64]:
        """Inverse of `ras_from_voxel`."""
        return np.asarray(np.linalg.inv(self.ras_from_voxel), dtype=np.float64)

    @cached_property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance between neighbouring voxel centres along i, j (and k)."""
        linear = self.ras_from_voxel[: self.ndim, : self.ndim]
        return np.asarray(np.sqrt((linear**2).sum(axis=0)), dtype=np.float64)

    @property
    def voxel_volume_mm(self) -> float:
        """Volume of a voxel in mm³ (area in mm² in 2-D)."""
        return float(abs(np.linalg.det(self.ras_from_voxel[: self.ndim, : self.ndim])))

    @property
    def centre_ras(self) -> NDArray[np.float64]:
        """World position of the middle of the image, `(n,)` mm."""
        return self.to_ras((np.asarray(self.shape) - 1) / 2)

    def to_ras(self, voxel: ArrayLike) -> NDArray[np.float64]:
        """World positions, `(..., n)` mm, of voxel indices `(..., n)`."""
        n = self.ndim
        return np.asarray(voxel) @ self.ras_from_voxel[:n, :n].T + self.ras_from_voxel[:n, n]

    def to_voxel(self, ras: ArrayLike) -> NDArray[np.float64]:
        """Voxel indices, `(..., n)`, of world positions `(..., n)` in mm."""
        n = self.ndim
        return np.asarray(ras) @ self.voxel_from_ras[:n, :n].T + self.voxel_from_ras[:n, n]

    def cropped(self, start: ArrayLike, shape: tuple[int, ...]) -> "Grid":
        """Grid of the voxels from index `start` on (negative to pad), `shape` of them."""
        matrix = self.ras_from_voxel.copy()
        matrix[: self.ndim, self.ndim] = self.to_ras(np.asarray(start, dtype=np.float64))
        return Grid(shape, matrix)

    def with_shape(self, shape: tuple[int, ...]) -> "Grid":
        """Grid over the same field of view (voxel edges kept) with another number of voxels."""
        n = self.ndim
        factor = np.asarray(self.shape) / np.asarray(shape)
        matrix = self.ras_from_voxel.copy()
        matrix[:n, :n] = matrix[:n, :n] * factor
        matrix[:n, n] = self.to_ras((factor - 1) / 2)
        return Grid(shape, matrix)

    def with_spacing(self, spacing_mm: ArrayLike) -> "Grid":
        """Grid over the same field of view, sides rounded so that voxels come near `spacing_mm`."""
        sides = np.asarray(self.shape) * self.spacing_mm / np.asarray(spacing_mm, dtype=np.float64)
        return self.with_shape(tuple(int(n) for n in np.maximum(1, np.round(sides))))

    def isclose(self, other: "Grid", tolerance_mm: float = 1e-3) -> bool:
        """Whether the shapes are equal and all corners agree within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), -1)
        return bool(np.abs(self.to_ras(corners) - other.to_ras(corners)).max() <= tolerance_mm)
