"""One encoder for each image of a pair, one decoder that segments it, one that registers the two."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nets.joint.base import JOINT_NETS, Joint, JointNet
from nets.joint.parts import Decoder, Encoder, label_channels
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import coarser, convolution


@JOINT_NETS.register("shared-encoder")
class SharedEncoder(JointNet):
    """Features of each image by one encoder; each image is segmented from its own, the field is found from both.

    A segmentation does not depend on the other image. The moving labels go to the registration decoder alone.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    widths
        Channels of the levels, finest first.
    segment_moving
        Say the moving image's labels too, by the same weights.
    head, head_settings
        As for `CrossStitch`.
    factor
        As for `CrossStitch`; with 2 the registration decoder ends there.

    References
    ----------
    Estienne et al., Deep learning-based concurrent brain registration and tumor segmentation, Front. Comput.
    Neurosci. 2020. Different here: features of the two images are stacked, not subtracted; moving labels may help.
    """

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        widths: Sequence[int] = (16, 32, 32, 48),
        segment_moving: bool = True,
        head: str = "stationary",
        head_settings: Mapping[str, int] | None = None,
        factor: int | None = None,
    ) -> None:
        super().__init__(ndim, labels)
        self.factor, self.segment_moving = field_factor(head, factor), segment_moving
        self.encoder = Encoder(ndim, 1, widths)
        self.segmentation = Decoder(ndim, widths, widths)
        self.registration = Decoder(ndim, widths, [2 * width + labels for width in widths], self.factor - 1)
        self.logits = convolution(ndim, widths[0], labels, 1)
        self.head = make_head(head, ndim, self.registration.widths[-1], head_settings)

    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """Both images through the encoder at once, then the decoders."""
        batch, known = fixed.shape[0], label_channels(moving_labels, fixed, self.labels)
        features: list[Tensor] = self.encoder(torch.cat([fixed, moving]))
        merged = [
            torch.cat([*x.chunk(2), coarser(known, 2**at).to(x.dtype)], 1) if at >= self.factor - 1 else x
            for at, x in enumerate(features)
        ]
        motion: Motion = self.head(self.registration(merged)[-1], inverse=inverse)
        seen = features if self.segment_moving else [x[:batch] for x in features]
        logits = self.logits(self.segmentation(seen)[-1]).float().chunk(1 + self.segment_moving)
        registered = motion.registered(fixed.shape[2:], self.factor)
        return Joint(registered, logits[0], logits[1] if self.segment_moving else None)
