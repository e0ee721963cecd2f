"""Bias correction: a known field is taken away, in 2-D and 3-D."""

import numpy as np
import pytest
import torch

from covoxel.preprocessing import correct_bias
from covoxel.spatial import Grid, Image


def two_tissues(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head of two tissues in air, its mask, and a smooth field of ± 30 %."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in shape], indexing="ij")
    radius = torch.stack(axes).square().sum(0).sqrt()
    tissue = torch.where(radius < 0.9, 100.0, 0.0) + torch.where(radius < 0.5, 60.0, 0.0)
    tissue = tissue + torch.randn(shape) * 1.5 * (radius < 0.9)
    return tissue, radius < 0.9, torch.exp(0.3 * axes[0] - 0.2 * axes[1] * axes[0])


@pytest.mark.parametrize("shape", [(96, 80), (48, 44, 40)])
@pytest.mark.parametrize("floor", [0.0, -30.0])
def test_a_known_field_is_taken_away(shape: tuple[int, ...], floor: float) -> None:
    tissue, head, field = two_tissues(shape)
    grid = Grid.from_spacing(shape, 2.0)
    corrected = correct_bias(Image(tissue * field + floor, grid), shrink=2).data - floor
    ratio_before = (field[head]).std() / field[head].mean()
    left = corrected[head] / tissue[head].clamp(min=1)
    assert left.std() / left.mean() < 0.35 * ratio_before


def test_the_grid_and_the_bits_are_the_same_every_time(grid: Grid) -> None:
    image = Image(torch.rand(grid.shape) + 1, grid)
    first, second = correct_bias(image), correct_bias(image)
    assert first.grid is grid
    assert first.data.dtype == torch.float32
    assert torch.equal(first.data, second.data)


def test_small_sides_constant_images_and_nonsense() -> None:
    slab = Image(torch.rand(40, 40, 3) + 1, Grid.from_spacing((40, 40, 3), (1, 1, 5)))
    assert correct_bias(slab).data.isfinite().all()
    flat = Image(torch.full((20, 20), 4.0), Grid.from_spacing((20, 20)))
    assert torch.equal(correct_bias(flat).data, flat.data)
    with pytest.raises(ValueError, match="finite"):
        correct_bias(Image(torch.full((20, 20), np.nan), flat.grid))
    with pytest.raises(ValueError, match="shrink must be 1 or more"):
        correct_bias(flat, shrink=0)
