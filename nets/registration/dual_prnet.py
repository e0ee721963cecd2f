"""Dual-PRNet++: each image has its own feature pyramid; fields are found coarse to fine between the two."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import block, coarser, convolution, double, local_correlation, warp_features


class _Stream(nn.Module):
    """U-Net whose decoder features, coarsest first, are the pyramid of one image; cells of `factor`, 2 factor, …."""

    def __init__(self, ndim: int, widths: Sequence[int], factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.down = nn.ModuleList(block(ndim, a, b) for a, b in zip([1, *widths], widths, strict=False))
        rising = list(reversed(widths))
        self.up = nn.ModuleList(block(ndim, a + b, b) for a, b in zip(rising, rising[1:], strict=False))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = coarser(image) if self.factor == 2 else image
        skips: list[Tensor] = []
        for down in self.down:
            x = down(coarser(skips[-1]) if skips else x)
            skips.append(x)
        pyramid = [skips.pop()]
        for up in self.up:
            skip = skips.pop()
            pyramid.append(up(torch.cat([double(pyramid[-1], skip.shape[2:]), skip], 1)))
        return pyramid


class _Residual(nn.Module):
    """What is left at one level: features of both images and their local correlation, residual convolutions, a head."""

    def __init__(self, ndim: int, width: int, reach: int, head: str, settings: Mapping[str, int] | None) -> None:
        super().__init__()
        self.reach = reach
        self.join = block(ndim, 2 * width + (2 * reach + 1) ** ndim, width)
        self.inner = nn.Sequential(block(ndim, width, width), convolution(ndim, width, width))
        self.act = nn.LeakyReLU(0.2)
        self.head = make_head(head, ndim, width, settings)

    def forward(self, fixed: Tensor, moved: Tensor, inverse: bool) -> Motion:
        likeness = local_correlation(fixed, moved, reach=self.reach, patch=1)
        x = self.join(torch.cat([fixed, moved, likeness], 1))
        motion: Motion = self.head(self.act(x + self.inner(x)), inverse=inverse)
        return motion


@REGISTRATION_NETS.register("dual-prnet")
class DualPRNet(RegistrationNet):
    """Two streams of one shared U-Net, and at each level what the coarser levels have left.

    At each level the moving features are warped by the field so far, doubled, and correlated with the fixed ones
    (patches of radius 1); the new field is composed with it. One interpolation of the image at the end.

    Parameters
    ----------
    ndim
        2 or 3.
    widths
        Channels of the levels, finest first; the default suits 35×50×36. Full size (160×192×224):
        `(16, 32, 32, 64, 64)`, five levels as in the paper.
    reach
        Largest shift in the correlation, voxels of the level.
    head, head_settings
        What each level says: "displacement", "stationary" or "time-varying", and what that head takes.
    factor
        Voxels to a cell of the finest level, 1 (the paper) or 2; default as for VoxelMorph.

    References
    ----------
    Kang et al., Dual-stream pyramid registration network, Med Image Anal 2022 (Dual-PRNet++).
    Different here: means over cells go down instead of strides, so that a level's field lies where `refine` puts it;
    a field is composed by sampling, not added; any head may stand at a level.
    """

    def __init__(
        self,
        ndim: int,
        *,
        widths: Sequence[int] = (8, 16, 32, 32),
        reach: int = 1,
        head: str = "displacement",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim)
        self.factor = field_factor(head, factor)
        self.stream = _Stream(ndim, widths, self.factor)
        self.levels = nn.ModuleList(_Residual(ndim, w, reach, head, head_settings) for w in reversed(widths))

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Fields from the coarsest level to the finest."""
        total: Motion | None = None
        levels: list[Level] = []
        for net, ours, theirs in zip(self.levels, self.stream(fixed), self.stream(moving), strict=True):
            total = None if total is None else total.onto(ours.shape[2:])
            moved = theirs if total is None else warp_features(theirs, total.displacement_vox)
            total = net(ours, moved, inverse).after(total)
            levels.append(total.level())
        assert total is not None
        return total.registered(fixed.shape[2:], self.factor, tuple(levels))
