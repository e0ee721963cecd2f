"""Running average of a network's weights."""

import torch
from torch import nn


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, kept: float) -> None:
    """Move the weights of `average` towards those of `network`: so much of its own is kept. Buffers are copied."""
    weights = zip(average.parameters(), network.parameters(), strict=True)
    for mine, theirs in weights:
        mine.data.lerp_(theirs.data, 1 - kept)
    buffers = zip(average.buffers(), network.buffers(), strict=True)
    for kept_buffer, buffer in buffers:
        kept_buffer.copy_(buffer)


def kept_after(steps: int, average: float) -> float:
    """What an average of `average` keeps after so many steps: less at first, so that it forgets where it began."""
    return min(average, 1 - 1 / (steps + 2))
