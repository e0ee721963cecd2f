"""Image: an array and the grid it lies on; an array without a grid is not an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.spatial.grid import Grid


@dataclass(frozen=True, eq=False)
class Image:
    """Voxel values and where they lie.

    Parameters
    ----------
    data
        Tensor of shape `grid.shape`: float32 intensities, or int64 labels.
    grid
        Placement of the voxels in the world (RAS+, mm).
    """

    data: Tensor
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.data.shape) != self.grid.shape:
            raise ValueError(f"data must have the grid's shape {self.grid.shape}, got {tuple(self.data.shape)}")

    def to(self, device: torch.device | str) -> "Image":
        """The same image with its voxels on `device`."""
        return Image(self.data.to(device), self.grid)
