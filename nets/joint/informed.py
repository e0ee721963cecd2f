"""Segmentation-informed registration: any registration network sees images and their label probabilities."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nets.joint.base import JOINT_NETS, Joint, JointNet
from nets.joint.parts import layer
from nets.registration.base import REGISTRATION_NETS, Registered
from nets.registration.parts import convolution, start_small
from nets.segmentation import SEGMENTATION_NETS


class InformedRegistration(nn.Module):
    """A network of `REGISTRATION_NETS` behind a small one that works the labels of each image into it.

    Registration networks take one channel an image. Two convolutions, the same for both images, say from image and
    label probabilities what is added to the image; an untrained one adds nothing.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    registration, registration_settings
        Name and settings of the registration network.
    width
        Channels between the two convolutions.
    """

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        registration: str = "lapirn",
        registration_settings: Mapping[str, Any] | None = None,
        width: int = 8,
    ) -> None:
        super().__init__()
        self.work_in = nn.Sequential(layer(ndim, 1 + labels, width), start_small(convolution(ndim, width, 1)))
        self.backbone = REGISTRATION_NETS[registration](ndim, **(registration_settings or {}))

    def forward(
        self, fixed: Tensor, moving: Tensor, fixed_labels: Tensor, moving_labels: Tensor, *, inverse: bool = False
    ) -> Registered:
        """Register images `(batch, 1, *shape)` with their label probabilities `(batch, label, *shape)`.

        The labels are best cleaned of what anatomy forbids before they come here.
        """
        dtype = next(self.parameters()).dtype
        pair = ((fixed, fixed_labels), (moving, moving_labels))
        seen = [self.informed(image.to(dtype), labels.to(dtype)) for image, labels in pair]
        registered: Registered = self.backbone(*seen, inverse=inverse)
        return registered

    def informed(self, image: Tensor, labels: Tensor) -> Tensor:
        """What the registration network sees of an image, `(batch, 1, *shape)`."""
        added: Tensor = self.work_in(torch.cat([image, labels], 1))
        return image + added.to(image.dtype)


@JOINT_NETS.register("informed")
class Informed(JointNet):
    """A segmentation network for both images, then a registration network that sees images and segmentations.

    The two are two networks in a row: unless `through`, losses of the transform do not reach the segmentation network.
    Moving labels that are given take the place of the predicted ones.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    segmentation, segmentation_settings
        Name and settings of the network of `SEGMENTATION_NETS`.
    registration, registration_settings, width
        As for `InformedRegistration`.
    through
        Let losses of the transform teach the segmentation network too.

    References
    ----------
    Ruthven, Miquel and King, A segmentation-informed deep learning framework to register dynamic two-dimensional
    magnetic resonance images of the vocal tract during speech, Biomed Signal Process Control 2023.
    Different here: probabilities instead of masks; they are cleaned outside, see `InformedRegistration`; any backbone.
    """

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        segmentation: str = "unet",
        segmentation_settings: Mapping[str, Any] | None = None,
        registration: str = "lapirn",
        registration_settings: Mapping[str, Any] | None = None,
        width: int = 8,
        through: bool = False,
    ) -> None:
        super().__init__(ndim, labels)
        self.through = through
        self.segmentation = SEGMENTATION_NETS[segmentation](ndim=ndim, labels=labels, **(segmentation_settings or {}))
        self.registration = InformedRegistration(
            ndim, labels=labels, registration=registration, registration_settings=registration_settings, width=width
        )

    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """Segment, then register."""
        ours, theirs = self.segmentation(torch.cat([fixed, moving])).float().chunk(2)
        fixed_labels, predicted = ((x if self.through else x.detach()).softmax(1) for x in (ours, theirs))
        known = predicted if moving_labels is None else moving_labels
        registered = self.registration(fixed, moving, fixed_labels, known, inverse=inverse)
        return Joint(registered, ours, theirs)
