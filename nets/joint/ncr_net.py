"""NCR-Net: a decoder for the displacement and one for what has no counterpart in the moving image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from covoxel.spatial import warp
from covoxel.spatial.smoothing import refine
from nets.joint.base import JOINT_NETS, Joint, JointNet
from nets.joint.parts import Decoder, Encoder
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import convolution, full_precision, start_small

_LEAST = 1e-6


class _Foreign(nn.Module):
    """Logits of non-correspondence at one level; before training, 5 % everywhere."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.last = start_small(convolution(ndim, channels, 1))
        for name, parameter in self.last.named_parameters():
            if name == "bias":
                nn.init.constant_(parameter, -3.0)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.last(features).float()
        return logits


@JOINT_NETS.register("ncr-net")
class NCRNet(JointNet):
    """One encoder of the stacked images, two decoders, outputs at several resolutions.

    It learns no anatomy. The moving labels do not go in: propagated, they are the fixed segmentation,
    `log((1 - S) moved labels + S / labels)` with `S` the probability of having no counterpart: there, any label
    may be. Without moving labels all are equally likely.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    widths
        Channels of the levels, finest first.
    outputs
        Resolutions with an output, the finest ones of the decoders; each has a head of its own.
    head, head_settings
        As for `CrossStitch`.
    factor
        As for `CrossStitch`; both decoders end there.

    References
    ----------
    Andresen et al., Deep learning-based simultaneous registration and unsupervised non-correspondence segmentation of
    medical images with pathologies, IJCARS 2022; and its abstract at WBIR 2022.
    Different here: instance norm; each resolution says a whole displacement; no region growing.
    """

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        widths: Sequence[int] = (16, 32, 32, 48),
        outputs: int = 3,
        head: str = "stationary",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim, labels)
        self.factor = field_factor(head, factor)
        self.encoder = Encoder(ndim, 2, widths)
        self.registration, self.correspondence = (Decoder(ndim, widths, widths, self.factor - 1) for _ in range(2))
        channels = self.registration.widths
        if not 1 <= outputs <= len(channels):
            raise ValueError(f"outputs must be from 1 to {len(channels)} with {len(widths)} widths, got {outputs}")
        self.heads = nn.ModuleList(make_head(head, ndim, width, head_settings) for width in channels[-outputs:])
        self.foreign = nn.ModuleList(_Foreign(ndim, width) for width in channels[-outputs:])
        self._doubts = True

    def train_phase(self, phase: int) -> None:
        """Phase 1: encoder and displacement alone, `foreign` is None. Phase 2, as after construction: everything."""
        if phase not in (1, 2):
            raise ValueError(f"phase must be 1 or 2, got {phase}")
        self._doubts = phase == 2
        for part in (self.correspondence, self.foreign):
            part.requires_grad_(self._doubts)

    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """Displacement and doubt at each resolution, coarsest first."""
        shape = fixed.shape[2:]
        features = self.encoder(torch.cat([fixed, moving], 1))
        fields = self.registration(features)[-len(self.heads) :]
        motions: list[Motion] = [
            head(x, inverse=inverse and x is fields[-1]) for head, x in zip(self.heads, fields, strict=True)
        ]
        levels = tuple(motion.level() for motion in motions)
        registered = motions[-1].registered(shape, self.factor, levels)
        registered = replace(registered, velocity_vox=motions[-1].velocity_vox)
        doubts: tuple[Tensor, ...] = ()
        if self._doubts:
            doubted = self.correspondence(features)[-len(self.foreign) :]
            doubts = tuple(say(x) for say, x in zip(self.foreign, doubted, strict=True))
        foreign = refine(doubts[-1], [self.factor] * self.ndim, shape) if doubts else None
        propagated = self._propagated(moving_labels, registered.displacement_vox, foreign)
        return Joint(registered, propagated, None, foreign, doubts)

    def _propagated(self, moving_labels: Tensor | None, displacement_vox: Tensor, foreign: Tensor | None) -> Tensor:
        if moving_labels is None:
            return displacement_vox.new_zeros(displacement_vox.shape[0], self.labels, *displacement_vox.shape[2:])
        with full_precision(displacement_vox):
            moved = warp(moving_labels.float(), displacement_vox)
            if foreign is not None:
                moved = moved + foreign.sigmoid() * (1 / self.labels - moved)
            return (moved + _LEAST).log()
