"""Recompute: the same gradient, less kept, and nothing left behind."""

import copy

import torch
from torch import Tensor, nn

from benchmarks.held import Held
from covoxel.training.joint.recompute import recomputed
from nets.segmentation import SEGMENTATION_NETS


def network() -> nn.Module:
    torch.manual_seed(0)
    return SEGMENTATION_NETS["unet"](ndim=2, labels=2)


def memory_and_gradient(net: nn.Module, image: Tensor) -> tuple[int, list[Tensor]]:
    """Most bytes that a step holds, and the gradient."""
    with Held() as memory:
        net(image).square().mean().backward()
    return memory.most, [p.grad for p in net.parameters() if p.grad is not None]


def test_less_is_kept_and_the_gradient_is_the_same_to_the_bit() -> None:
    image = torch.rand(2, 1, 32, 32)
    plain, again = network(), network()
    much, gradient = memory_and_gradient(plain, image)
    with recomputed(again):
        little, same = memory_and_gradient(again, image)
    assert all(map(torch.equal, gradient, same))
    again.zero_grad()
    after, _ = memory_and_gradient(again, image)
    assert little < 0.75 * after
    assert after == much


def test_a_copy_that_was_made_meanwhile_has_its_own_weights() -> None:
    net = network()
    with recomputed(net), torch.no_grad():
        other = copy.deepcopy(net)
        for parameter in other.parameters():
            parameter.zero_()
        assert other(torch.rand(1, 1, 16, 16)).abs().max() == 0
        assert net(torch.rand(1, 1, 16, 16)).abs().max() > 0
