"""A toy: discs in noise with label maps that are right, nearly right, shifted or empty, and a network of seconds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from covoxel.training import PairedCase

SHAPE = (24, 20)
ATLASES = ("right", "near", "shifted", "far")


def disc(index: int, radius: float = 6.0) -> tuple[Tensor, Tensor]:
    """Image and label map of the disc at a place and of a brightness of its own."""
    generator = torch.Generator().manual_seed(index)
    centre = torch.tensor([11.5, 9.5]) + 2 * torch.randn(2, generator=generator).clamp(-1, 1)
    axes = torch.meshgrid(*[torch.arange(side).float() for side in SHAPE], indexing="ij")
    label_map = ((torch.stack(axes) - centre.view(2, 1, 1)) ** 2).sum(0) < radius**2
    return label_map + 0.3 * torch.randn(SHAPE, generator=generator), label_map.to(torch.uint8)


def planted_case(index: int) -> PairedCase:
    image, label_map = disc(index)
    maps = torch.stack([label_map, label_map.roll(1, 0), label_map.roll(4, 1), label_map.roll(-7, 0)])
    return PairedCase(f"case{index}", image, maps, torch.ones_like(maps, dtype=torch.bool), ATLASES)


@pytest.fixture
def planted() -> list[PairedCase]:
    """Six cases; of the four label maps of each two are shifted, by four and by seven voxels."""
    return [planted_case(index) for index in range(6)]


class Net(nn.Sequential):
    """Three convolutions; dropout draws from torch's generator."""

    def __init__(self, labels: int = 2, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 5, padding=2),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(8, 8, 5, padding=2),
            nn.SiLU(),
            nn.Conv2d(8, labels, 1),
        )


@pytest.fixture
def make_net() -> Callable[..., Net]:
    """Builds the network, always with the same weights."""

    def make(labels: int = 2, dropout: float = 0.0) -> Net:
        torch.manual_seed(1)
        return Net(labels, dropout)

    return make
