"""What a registration engine is, and the batch of moving images it receives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    labels
        `(batch, label, *largest_shape)` probabilities that belong to the images, continued likewise; label 0 is
        background. None where no label drives the registration.
    first
        Number of the first image among all that are registered, to name one in an error.
    """

    data: Tensor
    grids: tuple[Grid, ...]
    labels: Tensor | None = None
    first: int = 0

    @classmethod
    def of(
        cls,
        images: Sequence[Image],
        device: torch.device | str,
        *,
        labels: Sequence[Tensor] = (),
        first: int = 0,
    ) -> "MovingBatch":
        """Batch of `images` (all 2-D or all 3-D) on `device`, with `labels` `(label, *shape)` of each or of none."""
        largest = [int(side) for side in np.max([image.grid.shape for image in images], axis=0)]
        data = torch.cat([_padded(image.data[None, None], largest) for image in images]).to(device)
        probabilities = torch.cat([_padded(each[None], largest) for each in labels]).to(device) if labels else None
        return cls(data, tuple(image.grid for image in images), probabilities, first)

    def with_data(self, data: Sequence[Tensor]) -> "MovingBatch":
        """The batch with other channels, `(1, channel, *largest_shape)` of each image, on the same grids."""
        return replace(self, data=torch.cat(list(data)))

    def part(self, rows: Sequence[int]) -> "MovingBatch":
        """The batch with some of its images alone, in that order, as often as they are named."""
        labels = None if self.labels is None else self.labels[list(rows)]
        return replace(self, data=self.data[list(rows)], grids=tuple(self.grids[row] for row in rows), labels=labels)

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

    def own_sums(self) -> Tensor:
        """Sum of each image over its own voxels, `(batch,)`."""
        return torch.stack([self.image(index).data.sum() for index in range(len(self.grids))])

    def inside(self, coordinates_vox: Tensor) -> Tensor:
        """Where voxel coordinates `(batch, n, *shape)` fall inside each image: `(batch, 1, *shape)` of 0 and 1."""
        within = (coordinates_vox >= -0.5) & (coordinates_vox <= self.sides - 0.5)
        return within.all(1, keepdim=True).to(coordinates_vox)


def _padded(data: Tensor, shape: Sequence[int]) -> Tensor:
    """Float values, `(1, channel, *shape)`, continued by those at the border."""
    short = [wanted - side for wanted, side in zip(shape, data.shape[2:], strict=True)]
    return functional.pad(data.float(), [p for extra in reversed(short) for p in (0, extra)], mode="replicate")


class PairError(ValueError):
    """A pair could not be registered; `index` is the number of its moving image."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"moving image {index}: {reason}")
        self.index = index
        self.reason = reason


Engine = Callable[..., list[Transform]]
"""`f(fixed: Image, moving: MovingBatch, *, **settings)`: one transform a moving image, on the images' device."""

ENGINES: Registry[Engine] = Registry("registration engine", "covoxel.registration")
