"""VoxelMorph-1 and -2: one U-Net for both images, a field at the end."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nets.registration.base import REGISTRATION_NETS, Registered, RegistrationNet
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import block, double


class Body(nn.Module):
    """U-Net from stacked images to features on the grid of the field; strides of 2 down, doubling and skips up.

    Parameters
    ----------
    ndim
        2 or 3.
    inputs
        Channels that come in.
    encoder, decoder, half, last, factor
        As for `VoxelMorph`.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        *,
        encoder: Sequence[int],
        decoder: Sequence[int],
        half: int,
        last: Sequence[int],
        factor: int,
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder) or not last:
            raise ValueError(f"decoder must be as long as encoder and last not empty, got {decoder}, {encoder}, {last}")
        self.factor = factor
        widths = [inputs, *encoder]
        self.encoder = nn.ModuleList(block(ndim, a, b, stride=2) for a, b in zip(widths, encoder, strict=False))
        skips = [0, *reversed(encoder[:-1])]
        before = [encoder[-1], *decoder]
        self.decoder = nn.ModuleList(block(ndim, a + s, b) for a, s, b in zip(before, skips, decoder, strict=False))
        self.at_half = block(ndim, decoder[-1], half)
        entry = half + (inputs if factor == 1 else 0)
        self.last = nn.Sequential(*(block(ndim, a, b) for a, b in zip([entry, *last], last, strict=False)))

    def forward(self, images: Tensor) -> Tensor:
        """Features `(batch, last[-1], *ceil(shape / factor))` of `(batch, inputs, *shape)`."""
        skips = [images]
        for down in self.encoder:
            skips.append(down(skips[-1]))
        x = self.decoder[0](skips.pop())
        for up in self.decoder[1:]:
            skip = skips.pop()
            x = up(torch.cat([double(x, skip.shape[2:]), skip], 1))
        x = self.at_half(x)
        if self.factor == 1:
            x = torch.cat([double(x, images.shape[2:]), images], 1)
        out: Tensor = self.last(x)
        return out


class VoxelMorph(RegistrationNet):
    """U-Net on both images stacked, and a head.

    Parameters
    ----------
    ndim
        2 or 3.
    encoder
        Channels at 1/2, 1/4, 1/8 … of the resolution.
    decoder
        Channels of the convolutions on the way back, from the coarsest level to 1/2: as many as `encoder`.
    half
        Channels of one more convolution at 1/2.
    last
        Channels of the convolutions at the resolution of the field.
    head, head_settings
        "displacement", "stationary" (diffeomorphic) or "time-varying", and what that head takes.
    factor
        Voxels to a cell of the field, 1 or 2; by default 1 for a displacement, 2 for velocities. With 2 no
        convolution runs at full resolution, which is most of the time on a CPU.

    References
    ----------
    Balakrishnan et al., An unsupervised learning model for deformable medical image registration, CVPR 2018;
    VoxelMorph: a learning framework for deformable medical image registration, TMI 2019.
    Dalca et al., Unsupervised learning of probabilistic diffeomorphic registration, Med Image Anal 2019.
    Sides need not divide by 16: a level has `ceil(side / 2)` cells and skips cut what is too long.
    """

    def __init__(
        self,
        ndim: int,
        *,
        encoder: Sequence[int],
        decoder: Sequence[int],
        half: int,
        last: Sequence[int],
        head: str = "displacement",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim)
        self.factor = field_factor(head, factor)
        self.body = Body(ndim, 2, encoder=encoder, decoder=decoder, half=half, last=last, factor=self.factor)
        self.head = make_head(head, ndim, last[-1], head_settings)

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Field of one pass through the U-Net."""
        motion: Motion = self.head(self.body(torch.cat([fixed, moving], 1)), inverse=inverse)
        return motion.registered(fixed.shape[2:], self.factor)


@REGISTRATION_NETS.register("voxelmorph-1")
def voxelmorph_1(
    ndim: int,
    *,
    encoder: Sequence[int] = (16, 32, 32, 32),
    decoder: Sequence[int] = (32, 32, 32, 32),
    half: int = 8,
    last: Sequence[int] = (8,),
    head: str = "displacement",
    head_settings: Mapping[str, int] | None = None,
    factor: int | None = None,
) -> VoxelMorph:
    """VoxelMorph-1 with the widths of the paper, which suit a crop of 35×50×36 and a brain of 160×192×224 alike."""
    return VoxelMorph(
        ndim,
        encoder=encoder,
        decoder=decoder,
        half=half,
        last=last,
        head=head,
        head_settings=head_settings,
        factor=factor,
    )


@REGISTRATION_NETS.register("voxelmorph-2")
def voxelmorph_2(
    ndim: int,
    *,
    encoder: Sequence[int] = (16, 32, 32, 32),
    decoder: Sequence[int] = (32, 32, 32, 32),
    half: int = 32,
    last: Sequence[int] = (16, 16),
    head: str = "displacement",
    head_settings: Mapping[str, int] | None = None,
    factor: int | None = None,
) -> VoxelMorph:
    """VoxelMorph-2: one convolution more at the end, and more channels there. Widths of the paper."""
    return VoxelMorph(
        ndim,
        encoder=encoder,
        decoder=decoder,
        half=half,
        last=last,
        head=head,
        head_settings=head_settings,
        factor=factor,
    )
