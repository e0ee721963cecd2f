"""Whether two label maps say the same: labels that drove a registration, or trained its network, cannot score it."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from covoxel.preprocessing import canonical
from covoxel.spatial import Grid, Image

_TOLERANCE = 0.05
"""Part of a voxel by which grids of one image may differ in their headers."""


@dataclass(frozen=True)
class LabelContent:
    """By what a label map is known again, in whatever file, order and type its voxels are stored.

    Parameters
    ----------
    voxels
        SHA-256 of the values, axes turned closest to R, A (and S).
    shape, ras_from_voxel
        Where these are; see `Grid`.

    Raises
    ------
    ValueError
        If shape and matrix make no grid.
    """

    voxels: str
    shape: tuple[int, ...]
    ras_from_voxel: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        self._grid()

    def _grid(self) -> Grid:
        return Grid(self.shape, np.array(self.ras_from_voxel, dtype=np.float64))

    def plain(self) -> dict[str, Any]:
        """As JSON says it."""
        return asdict(self)

    def same(self, other: "LabelContent") -> bool:
        """Whether the other has the same voxels at the same places."""
        if self.voxels != other.voxels:
            return False
        grid = self._grid()
        return grid.isclose(other._grid(), _TOLERANCE * float(grid.spacing_mm.min()))


def content_of(labels: Image) -> LabelContent:
    """By what a label map is known again."""
    upright = canonical(labels)
    values = upright.data.to(torch.int64).contiguous().cpu().numpy().astype("<i8", copy=False)
    matrix = tuple(tuple(round(number, 6) for number in row) for row in upright.grid.ras_from_voxel.tolist())
    return LabelContent(hashlib.sha256(values.tobytes()).hexdigest(), upright.grid.shape, matrix)


def same_labels(first: Image, second: Image) -> bool:
    """Whether two label maps have the same voxels at the same places, in whatever order they are stored."""
    return content_of(first).same(content_of(second))
