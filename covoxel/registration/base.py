"""What a registration engine is, and the batch of moving images it receives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from covoxel.registry import Registry
from covoxel.spatial import Grid, Image, Transform


@dataclass(frozen=True, eq=False)
class MovingBatch:
    """Moving images of different grids in one tensor.

    Parameters
    ----------
    data
        `(batch, 1, *largest_shape)` float32; smaller images are continued by their border values.
    grids
        Grid of each image; index 0 of its axes is index 0 of its tensor.
    """

    data: Tensor
    grids: tuple[Grid, ...]

    @classmethod
    def of(cls, images: Sequence[Image], device: torch.device | str) -> "MovingBatch":
        """Batch of `images` (all 2-D or all 3-D) on `device`."""
        largest = np.max([image.grid.shape for image in images], axis=0)
        padded = []
        for image in images:
            short = largest - image.grid.shape
            pads = [int(p) for extra in reversed(short) for p in (0, extra)]
            padded.append(functional.pad(image.data[None, None].float(), pads, mode="replicate"))
        return cls(torch.cat(padded).to(device), tuple(image.grid for image in images))

    @property
    def sides(self) -> Tensor:
        """Own number of voxels of each image, `(batch, n, 1, …)`, to tell what lies inside it."""
        shapes = torch.tensor([grid.shape for grid in self.grids], dtype=self.data.dtype, device=self.data.device)
        return shapes.view(len(self.grids), -1, *[1] * (self.data.ndim - 2))

    def voxel_from_ras(self) -> NDArray[np.float64]:
        """`(batch, n + 1, n + 1)` matrices."""
        return np.stack([grid.voxel_from_ras for grid in self.grids])

    def image(self, index: int) -> Image:
        """One of the images, without what continues it."""
        own = tuple(slice(0, side) for side in self.grids[index].shape)
        return Image(self.data[index, 0][own], self.grids[index])

    def inside(self, coordinates_vox: Tensor) -> Tensor:
        """Where voxel coordinates `(batch, n, *shape)` fall inside each image: `(batch, 1, *shape)` of 0 and 1."""
        within = (coordinates_vox >= -0.5) & (coordinates_vox <= self.sides - 0.5)
        return within.all(1, keepdim=True).to(coordinates_vox)


Engine = Callable[..., list[Transform]]
"""`f(fixed: Image, moving: MovingBatch, *, **settings)`: one transform a moving image, on the images' device."""

ENGINES: Registry[Engine] = Registry("registration engine", "covoxel.registration")
