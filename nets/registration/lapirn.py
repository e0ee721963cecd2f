"""LapIRN: a pyramid of networks, each adding to the velocity what the coarser ones have left."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from covoxel.spatial import velocity, warp
from covoxel.spatial.smoothing import refine
from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet
from nets.registration.parts import block, coarser, convolution, full_precision, start_small
from nets.registration.voxelmorph import Body


class _Stage(nn.Module):
    """Images of one resolution, and the velocity so far, to what is added to it; velocities on cells of two voxels."""

    def __init__(self, ndim: int, widths: Sequence[int], first: bool) -> None:
        super().__init__()
        narrow = widths[0]
        self.body = Body(
            ndim, 2, encoder=widths, decoder=tuple(reversed(widths)), half=narrow, last=(narrow,), factor=2
        )
        self.join = block(ndim, narrow + (0 if first else ndim), narrow)
        self.out = start_small(convolution(ndim, narrow, ndim))

    def forward(self, images: Tensor, before: Tensor | None) -> Tensor:
        """Velocity `(batch, n, *cells)`, in cells; `before` is what it was on the same cells."""
        x = self.body(images)
        if before is not None:
            x = torch.cat([x, before.to(x.dtype)], 1)
        x = self.join(x)
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
        Channels at 1/2, 1/4 … of the resolution of a stage: a list for each stage, coarsest first. The last stage has
        the full resolution, each one before it half that of the next.
    squarings
        Of the velocity of each stage.

    References
    ----------
    Mok and Chung, Large deformation diffeomorphic image registration with Laplacian pyramid networks, MICCAI 2020.
    Different here: U-Nets with strides instead of residual blocks; velocities lie on cells of two voxels of their
    stage; no features travel from stage to stage; all stages are trained at once.
    """

    def __init__(
        self,
        ndim: int,
        *,
        widths: Sequence[Sequence[int]] = ((32, 48, 64), (16, 32, 32, 32)),
        squarings: int = 6,
    ) -> None:
        super().__init__(ndim)
        if not widths or not all(widths) or squarings < 1:
            raise ValueError(f"widths must hold channels and squarings be at least 1, got {widths} and {squarings}")
        self.squarings = squarings
        self.stages = nn.ModuleList(_Stage(ndim, own, index == 0) for index, own in enumerate(widths))

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Velocity of all stages, and its flow."""
        shape, field = fixed.shape[2:], None
        levels: list[Level] = []
        for index, stage in enumerate(self.stages, start=1):
            scale = 2 ** (len(self.stages) - index)
            ours, theirs = (coarser(image, scale) for image in (fixed, moving))
            if field is not None:
                theirs = self._moved(theirs, levels[-1].displacement_vox)
                field = _finer(field, [-(-side // (2 * scale)) for side in shape])
            field = stage(torch.cat([ours, theirs], 1), field)
            levels.append(Level(self._flow(field), field[:, None]))
        assert field is not None
        backward = _finer(self._flow(-field), shape) if inverse else None
        return Registered(_finer(levels[-1].displacement_vox, shape), field[:, None], None, backward, tuple(levels))

    def _flow(self, velocity_vox: Tensor) -> Tensor:
        with full_precision(velocity_vox):
            return velocity.exp(velocity_vox, squarings=self.squarings)

    def _moved(self, moving: Tensor, displacement_vox: Tensor) -> Tensor:
        """The moving image of a stage, seen through the displacement of the stage before, whose cells are four wide."""
        with full_precision(moving):
            return warp(moving.float(), _finer(displacement_vox, moving.shape[2:], 4)).to(moving.dtype)


def _finer(field_vox: Tensor, shape: Sequence[int], factor: int = 2) -> Tensor:
    """Field on cells `factor` times narrower, in their units; `shape` are their sides."""
    with full_precision(field_vox):
        return factor * refine(field_vox, [factor] * len(shape), shape)
