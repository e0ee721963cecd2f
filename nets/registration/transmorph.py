"""TransMorph: a Swin transformer sees both images, a convolutional decoder says the field."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nets.registration.base import REGISTRATION_NETS, Registered, RegistrationNet
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import block, coarser, double
from nets.registration.swin import PatchMerging, SwinBlock

_PATCH = 4


class _Encoder(nn.Module):
    """Swin transformer; the features of its stages, finest first, `(batch, channel, *grid)`."""

    def __init__(self, ndim: int, channels: int, depths: Sequence[int], heads: Sequence[int], window: int) -> None:
        super().__init__()
        kind = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.embed = kind(2, channels, _PATCH, _PATCH)
        self.first = nn.LayerNorm(channels)
        widths = [channels * 2**i for i in range(len(depths))]
        self.merge = nn.ModuleList(PatchMerging(ndim, width) for width in widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*(SwinBlock(ndim, width, head, window, shifted=bool(i % 2)) for i in range(depth)))
            for width, head, depth in zip(widths, heads, depths, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        short = [-side % _PATCH for side in reversed(images.shape[2:])]
        images = functional.pad(images, [p for extra in short for p in (0, extra)], "replicate")
        x = self.first(self.embed(images).movedim(1, -1))
        features: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(x if index == 0 else self.merge[index - 1](x))
            features.append(self.norms[index](x).movedim(-1, 1))
        return features


@REGISTRATION_NETS.register("transmorph")
class TransMorph(RegistrationNet):
    """Swin encoder on patches of four voxels an axis, convolutional decoder with skips from it and from the images.

    Parameters
    ----------
    ndim
        2 or 3.
    channels
        Channels of the first stage, doubled at each next one. The defaults suit 35×50×36; full size (160×192×224),
        the paper's TransMorph: `channels=96, depths=(2, 2, 4, 2), heads=(4, 4, 8, 8), window=7, last=16`.
    depths, heads
        Blocks and heads of each stage.
    window
        Side of the attention windows, cells.
    last
        Channels that the head sees.
    head, head_settings
        "displacement", "stationary" or "time-varying" (TransMorph-TVF), and what that head takes.
    factor
        Voxels to a cell of the field, 1 or 2; default as for VoxelMorph.

    References
    ----------
    Chen et al., TransMorph: transformer for unsupervised medical image registration, Med Image Anal 2022.
    Different here: no instance norm in the decoder (levels may have one cell), features doubled instead of interpolated
    linearly, windows cubic, no dropped paths, so that a seed and an input fix the answer. Relative position bias only.
    """

    def __init__(
        self,
        ndim: int,
        *,
        channels: int = 32,
        depths: Sequence[int] = (2, 2, 2),
        heads: Sequence[int] = (2, 4, 8),
        window: int = 4,
        last: int = 8,
        head: str = "displacement",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim)
        self.factor = field_factor(head, factor)
        self.encoder = _Encoder(ndim, channels, depths, heads, window)
        widths = [channels * 2**i for i in reversed(range(len(depths)))]
        self.up = nn.ModuleList(block(ndim, a + b, b) for a, b in zip(widths, widths[1:], strict=False))
        middle = channels // 2
        self.skip_half = block(ndim, 2, middle)
        self.join_half = block(ndim, channels + middle, middle if self.factor == 1 else last)
        if self.factor == 1:
            self.skip_full = block(ndim, 2, last)
            self.join_full = block(ndim, middle + last, last)
        self.head = make_head(head, ndim, last, head_settings)

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Field of one pass."""
        images = torch.cat([fixed, moving], 1)
        features = self.encoder(images)
        x = features.pop()
        for up in self.up:
            x = _join(up, x, features.pop())
        x = _join(self.join_half, x, self.skip_half(coarser(images)))
        if self.factor == 1:
            x = _join(self.join_full, x, self.skip_full(images))
        motion: Motion = self.head(x, inverse=inverse)
        return motion.registered(images.shape[2:], self.factor)


def _join(layer: nn.Module, coarse: Tensor, skip: Tensor) -> Tensor:
    joined: Tensor = layer(torch.cat([double(coarse, skip.shape[2:]), skip], 1))
    return joined
