"""LapIRN: a pyramid of networks, each adding to the velocity what the coarser ones have left."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from covoxel.spatial import velocity, warp
from covoxel.spatial.smoothing import refine
from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet
from nets.registration.parts import coarser, convolution, full_precision, start_small
from nets.registration.voxelmorph import Body

SQUARINGS = 7


class _Stage(nn.Module):
    """Images of one resolution and the velocity so far, on cells of `factor` of its voxels, to what is added to it."""

    def __init__(self, ndim: int, factor: int, first: bool, widths: Sequence[int]) -> None:
        super().__init__()
        self.body = Body(
            ndim,
            2,
            encoder=widths,
            decoder=tuple(reversed(widths)),
            half=widths[0],
            last=(widths[0],),
            factor=factor,
        )
        self.join = convolution(ndim, widths[0] + (0 if first else ndim), widths[0])
        self.act = nn.LeakyReLU(0.2)
        self.out = start_small(convolution(ndim, widths[0], ndim))

    def forward(self, images: Tensor, before: Tensor | None) -> Tensor:
        """Velocity `(batch, n, *cells)`, in cells; `before` is what it was on the same cells."""
        x = self.body(images)
        if before is not None:
            x = torch.cat([x, before.to(x.dtype)], 1)
        x = self.act(self.join(x))
        with full_precision(images):
            more: Tensor = self.out(x.to(next(self.out.parameters()).dtype)).float()
            return more if before is None else more + before


@REGISTRATION_NETS.register("lapirn")
class LapIRN(RegistrationNet):
    """Coarse to fine: a stage sees the moving image warped by the flow of the velocity so far, and adds to it.

    One stationary velocity makes the whole displacement, so that the inverse is cheap; `levels` holds what each stage
    has reached, on its own cells, for similarity at every resolution.

    Parameters
    ----------
    ndim
        2 or 3.
    widths
        Channels at 1/2, 1/4 … of the resolution of a stage; for each stage, coarsest first, a list of its own. Full
        size (160x192x224) as here or wider.

    References
    ----------
    Mok and Chung, Large deformation diffeomorphic image registration with Laplacian pyramid networks, MICCAI 2020.
    Different here: U-Nets with strides instead of residual blocks; the finest velocity lies on cells of two voxels; no
    features travel from stage to stage; all stages are trained at once unless the recipe says otherwise.
    """

    def __init__(self, ndim: int, *, widths: Sequence[Sequence[int]] = ((16, 32, 48), (16, 32, 32, 32))) -> None:
        super().__init__(ndim)
        if not widths or not all(widths):
            raise ValueError(f"widths must hold channels for a stage at least, got {widths}")
        self.scales = [2**power for power in reversed(range(len(widths)))]
        self.cells = [max(2, scale) for scale in self.scales]
        self.stages = nn.ModuleList(
            _Stage(ndim, cell // scale, index == 0, own)
            for index, (scale, cell, own) in enumerate(zip(self.scales, self.cells, widths, strict=True))
        )

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Velocity of all stages, and its flow."""
        shape, field = fixed.shape[2:], None
        levels: list[Level] = []
        for stage, scale, cell, before in zip(self.stages, self.scales, self.cells, [0, *self.cells], strict=False):
            ours, theirs = (coarser(image, scale) for image in (fixed, moving))
            if field is not None:
                theirs = self._moved(theirs, levels[-1].displacement_vox, before // scale)
                field = _finer(field, before // cell, [-(-side // cell) for side in shape])
            field = stage(torch.cat([ours, theirs], 1), field)
            with full_precision(fixed):
                levels.append(Level(velocity.exp(field, squarings=SQUARINGS), field[:, None]))
        assert field is not None
        with full_precision(fixed):
            backward = None
            if inverse:
                backward = _finer(velocity.exp(-field, squarings=SQUARINGS), self.cells[-1], shape)
            forward = _finer(levels[-1].displacement_vox, self.cells[-1], shape)
        return Registered(forward, field[:, None], None, backward, tuple(levels))

    def _moved(self, moving: Tensor, displacement: Tensor, factor: int) -> Tensor:
        with full_precision(moving):
            return warp(moving.float(), _finer(displacement, factor, moving.shape[2:])).to(moving.dtype)


def _finer(field_vox: Tensor, factor: int, shape: Sequence[int]) -> Tensor:
    """Field on cells `factor` times finer, in their units."""
    if factor == 1:
        return field_vox
    with full_precision(field_vox):
        return factor * refine(field_vox, [factor] * len(shape), shape)
