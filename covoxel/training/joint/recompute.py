"""Recompute: features are computed again in the backward pass in place of being kept, for images too big otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(*networks: nn.Module) -> Iterator[None]:
    """Keep, of each block of the networks, what goes in and not what happens inside, while the context lasts.

    Blocks are the outermost `nn.Sequential`s; of a network that is one itself, those within. Gradients are the same,
    to the bit where the forward pass is; a step takes about a third longer.

    References
    ----------
    Chen et al., Training deep nets with sublinear memory cost, 2016.
    """
    blocks = [block for network in networks for block in _outermost(network)]
    for block in blocks:
        vars(block)["forward"] = MethodType(_saving, block)  # a copy of the network is bound to its own blocks
    try:
        yield
    finally:
        for block in blocks:
            del vars(block)["forward"]


def _outermost(network: nn.Module) -> list[nn.Module]:
    """Sequences of layers that are inside of no other one but the network."""
    found: list[nn.Module] = []
    for child in network.children():
        found += [child] if isinstance(child, nn.Sequential) else _outermost(child)
    return found


def _saving(block: nn.Module, *inputs: Any) -> Any:
    forward = partial(type(block).forward, block)
    if torch.is_grad_enabled() and block.training:
        return checkpoint(forward, *inputs, use_reentrant=False)
    return forward(*inputs)
