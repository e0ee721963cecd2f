"""Blocks: padding and its way back, and how many parameters there are, counted by hand."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nets.blocks import (
    ConvNormAct,
    InvertedResidual,
    SqueezeExcite,
    convolution,
    crop,
    pad_to_multiple,
    parameter_count,
    resize,
    spatial_mean,
)


@pytest.mark.parametrize(("side", "padded"), [(1, 8), (7, 8), (8, 8), (9, 12), (12, 12)])
def test_a_side_is_padded_to_a_multiple_and_to_two_of_them_at_least(side: int, padded: int) -> None:
    x = torch.randn(1, 2, side, 8)
    y = pad_to_multiple(x, 4)
    assert y.shape == (1, 2, padded, 8)
    assert torch.equal(crop(y, (side, 8)), x)
    assert torch.equal(y[:, :, side:], x[:, :, -1:].expand(1, 2, padded - side, 8))


def test_parameters_are_counted() -> None:
    layer = nn.Linear(3, 2)
    assert parameter_count(layer) == 8
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6
    assert parameter_count(ConvNormAct(3, 2, 5)) == 2 * 5 * 27 + 2 * 5
    assert parameter_count(ConvNormAct(2, 4, 4, groups=4)) == 4 * 9 + 2 * 4


def test_a_convolution_keeps_the_size_dilated_or_not() -> None:
    x = torch.randn(1, 2, 9, 7)
    for dilation in (1, 2, 3):
        assert convolution(2, 2, 3, dilation=dilation)(x).shape == (1, 3, 9, 7)


def test_a_residual_is_added_where_sizes_agree() -> None:
    x = torch.randn(1, 4, 8, 8)
    for block, added in ((InvertedResidual(2, 4, 4), 1.0), (InvertedResidual(2, 4, 6), 0.0)):
        nn.init.zeros_(block.body[-1][1].weight)
        nn.init.zeros_(block.body[-1][1].bias)
        got = block(x)
        assert_close(got, added * x if added else torch.zeros(1, 6, 8, 8))


def test_weights_of_channels_see_the_mean_alone() -> None:
    """Shuffled voxels are weighted as before."""
    block, x = SqueezeExcite(2, 8), torch.randn(1, 8, 5, 5)
    order = torch.randperm(25)
    shuffled = x.flatten(2)[..., order].view_as(x)
    assert_close(block(shuffled), block(x).flatten(2)[..., order].view_as(x))


def test_means_and_sizes() -> None:
    x = torch.arange(24.0).view(1, 2, 3, 4)
    assert_close(spatial_mean(x), torch.tensor([5.5, 17.5]).view(1, 2, 1, 1))
    assert resize(torch.randn(1, 2, 3, 4, 5), (6, 4, 9)).shape == (1, 2, 6, 4, 9)
