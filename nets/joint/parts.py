"""Pieces that the joint networks share: normalised convolutions, encoders and decoders for images of any size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nets.blocks import spatial_mean
from nets.registration.parts import SLOPE, convolution, double


class Norm(nn.Module):
    """Instance norm that takes an image of one voxel too, which it makes its offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`x` `(batch, channel, *shape)`, each channel of each image with the learnt scale and offset."""
        if x.shape[2:].numel() == 1:
            return x - spatial_mean(x) + self.bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
        return functional.instance_norm(x, weight=self.weight, bias=self.bias)


def layer(ndim: int, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    """Convolution without bias (the norm would take it away), norm, LeakyReLU."""
    filters = convolution(ndim, inputs, outputs, stride=stride, bias=False)
    for weight in filters.parameters():
        nn.init.kaiming_normal_(weight, a=SLOPE)
    return nn.Sequential(filters, Norm(outputs), nn.LeakyReLU(SLOPE, inplace=True))


class Encoder(nn.Module):
    """One convolution at full resolution, then two a level, the first with stride 2.

    Parameters
    ----------
    ndim
        2 or 3.
    inputs
        Channels that come in.
    widths
        Channels of the levels, finest first; level l has cells of 2^l voxels.
    """

    def __init__(self, ndim: int, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths must hold channels for two levels at least, got {tuple(widths)}")
        coarse = (
            nn.Sequential(layer(ndim, before, width, stride=2), layer(ndim, width, width))
            for before, width in zip(widths, widths[1:], strict=False)
        )
        self.levels = nn.ModuleList([layer(ndim, inputs, widths[0]), *coarse])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of each level, finest first, `(batch, widths[l], *ceil(shape / 2^l))`."""
        features: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """From the coarsest level up to level `until`: what is coarser doubled, beside the skip, one convolution.

    Parameters
    ----------
    ndim
        2 or 3.
    widths
        Channels that come out of each level, finest first; the last one is not read.
    skips
        Channels that come in at each level, finest first; the last one is the coarsest level itself.
    until
        Finest level that is reached.
    """

    def __init__(self, ndim: int, widths: Sequence[int], skips: Sequence[int], until: int = 0) -> None:
        super().__init__()
        out = [*widths[:-1], skips[-1]]
        self.coarsest, self.until = len(skips) - 1, until
        self.widths = tuple(reversed(out[until:]))
        self.levels = nn.ModuleDict(
            {str(at): layer(ndim, out[at + 1] + skips[at], out[at]) for at in range(until, self.coarsest)}
        )

    def step(self, at: int, x: Tensor, skip: Tensor) -> Tensor:
        """Features of level `at` from those of the coarser one, `x`, and what is known there, `skip`."""
        features: Tensor = self.levels[str(at)](torch.cat([double(x, skip.shape[2:]), skip], 1))
        return features

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Features of each level, coarsest first, with channels `self.widths`; the first are the coarsest skips."""
        features = [skips[self.coarsest]]
        for at in reversed(range(self.until, self.coarsest)):
            features.append(self.step(at, features[-1], skips[at]))
        return features


def label_channels(moving_labels: Tensor | None, like: Tensor, labels: int) -> Tensor:
    """Moving labels as channels beside the images `like` `(batch, 1, *shape)`; zeros where nothing is known."""
    return like.new_zeros(like.shape[0], labels, *like.shape[2:]) if moving_labels is None else moving_labels
