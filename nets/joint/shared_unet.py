"""One U-Net for both tasks: a head that segments and one that registers on the same features."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nets.joint.base import JOINT_NETS, Joint, JointNet
from nets.joint.parts import Decoder, Encoder, label_channels
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import convolution


@JOINT_NETS.register("shared-unet")
class SharedUNet(JointNet):
    """U-Net on the fixed image, the moving one and the moving labels, with two heads.

    For visits of one subject: earlier labels are a prior, and both segmentations may come from one pass.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    widths
        Channels of the levels, finest first.
    segment_moving
        Say the moving image's labels too; of use where they do not go in.
    head, head_settings, factor
        As for `CrossStitch`; with a factor of 2 the field's head sees the decoder's features of that level.

    References
    ----------
    Li et al., A hybrid deep learning framework for integrated segmentation and registration: evaluation on
    longitudinal white matter tract changes, MICCAI 2019.
    """

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        widths: Sequence[int] = (16, 32, 32, 48),
        segment_moving: bool = False,
        head: str = "stationary",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim, labels)
        self.factor = field_factor(head, factor)
        self.encoder = Encoder(ndim, 2 + labels, widths)
        self.decoder = Decoder(ndim, widths, widths)
        self.logits = convolution(ndim, widths[0], labels * (1 + segment_moving), 1)
        self.head = make_head(head, ndim, widths[self.factor - 1], head_settings)

    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """One pass."""
        known = label_channels(moving_labels, fixed, self.labels)
        features = self.decoder(self.encoder(torch.cat([fixed, moving, known], 1)))
        motion: Motion = self.head(features[-self.factor], inverse=inverse)
        logits = self.logits(features[-1]).float().split(self.labels, 1)
        registered = motion.registered(fixed.shape[2:], self.factor)
        return Joint(registered, logits[0], logits[1] if len(logits) > 1 else None)
