"""Cross-stitch network: a path that segments and one that registers, exchanging features channel by channel."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from nets.joint.base import JOINT_NETS, Joint, JointNet
from nets.joint.parts import Decoder, Encoder, label_channels
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import convolution

Sight = Literal["pair", "fixed"]


class StitchUnit(nn.Module):
    """What each path goes on with: `[S'; R'] = [[α_SS, α_SR], [α_RS, α_RR]] [S; R]`, one matrix a channel.

    Parameters
    ----------
    channels
        Features of either path.
    start
        Share of the other path's features at the start, α_SR and α_RS; α_SS and α_RR are what is left of 1.

    References
    ----------
    Misra et al., Cross-stitch networks for multi-task learning, CVPR 2016.
    """

    def __init__(self, channels: int, *, start: float = 0.1) -> None:
        super().__init__()
        matrix = torch.tensor([[1 - start, start], [start, 1 - start]])
        self.alpha = nn.Parameter(matrix.repeat(channels, 1, 1))

    def forward(self, segmentation: Tensor, registration: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(batch, channels, *shape)` of both paths, mixed."""
        alpha = self.alpha.to(segmentation.dtype).view(-1, 2, 2, *[1] * (segmentation.ndim - 2))
        ours, theirs = (a[:, 0] * segmentation + a[:, 1] * registration for a in (alpha[:, 0], alpha[:, 1]))
        return ours, theirs


class _Path(nn.Module):
    """Encoder and decoder of one task."""

    def __init__(self, ndim: int, inputs: int, widths: Sequence[int], until: int) -> None:
        super().__init__()
        self.down = Encoder(ndim, inputs, widths)
        self.up = Decoder(ndim, widths, widths, until)


@JOINT_NETS.register("cross-stitch")
class CrossStitch(JointNet):
    """Two U-Nets of one shape, linked by stitch units after the convolutions of chosen levels.

    Both see the fixed image, the moving one and the moving labels; one says the fixed segmentation, the other the
    transform. The moving side may be the previous visit and its contour. The authors' losses are, by their code, Dice
    of the predicted labels, Dice of the warped moving labels, NCC of the images, and bending energy.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    widths
        Channels of the levels of either path, finest first. The default suits 35×50×36; full size (160×192×224):
        `(16, 32, 32, 64, 64)`.
    linked
        False: two paths without any unit, and otherwise the same, first weights of a seed included.
    stitched
        Levels with units, 0 is full resolution: one in the encoder, one in the decoder. None: all.
    start
        Share of the other path's features in a unit before training, 0 to 1.
    segmentation_sees
        "pair": the inputs of both paths are alike; "fixed": the segmentation path sees the fixed image alone and
        learns of the rest through the units.
    head, head_settings
        "displacement", "stationary" (diffeomorphic) or "time-varying", and what that head takes.
    factor
        Voxels to a cell of the field, 1 or 2, default as for VoxelMorph; with 2 the registration path ends there,
        and the decoder has no unit at full resolution.

    References
    ----------
    Beljaards et al., A cross-stitch architecture for joint registration and segmentation in adaptive radiotherapy,
    MIDL 2020; Elmahdy et al., Joint registration and segmentation via multi-task learning for adaptive radiotherapy
    of prostate cancer, IEEE Access 2021.
    Different here: convolutions are padded, so that what comes out is as large as what goes in; units start near the
    identity (theirs at 0.5); skips carry stitched features; outputs at full resolution alone; heads with velocities.
    """

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        widths: Sequence[int] = (16, 32, 32, 48),
        linked: bool = True,
        stitched: Sequence[int] | None = None,
        start: float = 0.1,
        segmentation_sees: Sight = "pair",
        head: str = "stationary",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim, labels)
        if segmentation_sees not in ("pair", "fixed"):
            raise ValueError(f"segmentation_sees must be 'pair' or 'fixed', got {segmentation_sees!r}")
        if not 0 <= start <= 1:
            raise ValueError(f"start must be from 0 to 1, got {start}")
        self.factor, self.linked, self.segmentation_sees = field_factor(head, factor), linked, segmentation_sees
        self.finest, self.coarsest = self.factor - 1, len(widths) - 1
        seen = 2 + labels
        self.segmentation = _Path(ndim, seen if segmentation_sees == "pair" else 1, widths, 0)
        self.registration = _Path(ndim, seen, widths, self.finest)
        self.logits = convolution(ndim, widths[0], labels, 1)
        self.head = make_head(head, ndim, widths[self.finest], head_settings)
        self.units = self._units(widths, stitched, start) if linked else nn.ModuleDict()

    def _units(self, widths: Sequence[int], stitched: Sequence[int] | None, start: float) -> nn.ModuleDict:
        levels = range(len(widths)) if stitched is None else sorted(set(stitched))
        if not levels or not set(levels) <= set(range(len(widths))):
            raise ValueError(f"stitched must name levels from 0 to {self.coarsest}, got {stitched}")
        places = {f"encoder-{at}": at for at in levels}
        places |= {f"decoder-{at}": at for at in reversed(levels) if self.finest <= at < self.coarsest}
        return nn.ModuleDict({place: StitchUnit(widths[at], start=start) for place, at in places.items()})

    def stitch_matrices(self) -> dict[str, Tensor]:
        """Alphas `(channel, 2, 2)` of each unit as `[[α_SS, α_SR], [α_RS, α_RR]]`, on the CPU; none if unlinked.

        Names are "encoder-1", "decoder-1" and so on by level, in the order in which features pass.
        """
        alphas = {place: self.units.get_parameter(f"{place}.alpha") for place in self.units}
        return {place: alpha.detach().to("cpu", torch.float32, copy=True) for place, alpha in alphas.items()}

    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """Both paths, level by level."""
        both = torch.cat([fixed, moving, label_channels(moving_labels, fixed, self.labels)], 1)
        pair = (both if self.segmentation_sees == "pair" else fixed), both
        skips: list[tuple[Tensor, Tensor]] = []
        downs = zip(self.segmentation.down.levels, self.registration.down.levels, strict=True)
        for at, (ours, theirs) in enumerate(downs):
            pair = self._stitch(f"encoder-{at}", ours(pair[0]), theirs(pair[1]))
            skips.append(pair)
        segmenting, registering = pair
        for at in reversed(range(self.coarsest)):
            segmenting = self.segmentation.up.step(at, segmenting, skips[at][0])
            if at >= self.finest:
                registering = self.registration.up.step(at, registering, skips[at][1])
                segmenting, registering = self._stitch(f"decoder-{at}", segmenting, registering)
        motion: Motion = self.head(registering, inverse=inverse)
        return Joint(motion.registered(fixed.shape[2:], self.factor), self.logits(segmenting).float())

    def _stitch(self, place: str, segmentation: Tensor, registration: Tensor) -> tuple[Tensor, Tensor]:
        if place not in self.units:
            return segmentation, registration
        mixed: tuple[Tensor, Tensor] = self.units[place](segmentation, registration)
        return mixed
