"""Image-and-spatial transformer network: images are made maps of their structures, and the maps are registered."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nets.joint.base import JOINT_NETS, Joint, JointNet
from nets.registration.base import REGISTRATION_NETS
from nets.segmentation import SEGMENTATION_NETS


@JOINT_NETS.register("istn")
class ISTN(JointNet):
    """An image transformer network, and any registration network that sees what it makes of both images and no more.

    The transformer says logits of the labels. The map that is registered is a grey level for each label, averaged by
    their probabilities; with two labels it is the probability of the structure, as in the paper. Losses of the
    transform teach the transformer too. Moving labels that are given make the moving map.

    With the paper's losses, `M'` and `F'` the maps, `S` the labels as such maps and `moved` by the displacement:
    explicit `|M' - S_M|² + |F' - S_F|² + |moved S_M - S_F|²`; implicit `|moved M' - S_F|² + |moved S_M - F'|² +
    |moved S_M - S_F|²`; refinement at test time `|moved M' - F'|²`, which needs no labels.

    Parameters
    ----------
    ndim, labels
        As for `JointNet`.
    transformer, transformer_settings
        Name and settings of a network of `SEGMENTATION_NETS`.
    registration, registration_settings
        Name and settings of a network of `REGISTRATION_NETS`.

    References
    ----------
    Lee et al., Image-and-spatial transformer networks for structure-guided image registration, MICCAI 2019.
    Different here: several labels; a transformer with norms; any registration network.
    """

    grey_levels: Tensor

    def __init__(
        self,
        ndim: int,
        *,
        labels: int,
        transformer: str = "unet",
        transformer_settings: Mapping[str, Any] | None = None,
        registration: str = "lapirn",
        registration_settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(ndim, labels)
        self.transformer = SEGMENTATION_NETS[transformer](ndim=ndim, labels=labels, **(transformer_settings or {}))
        self.registration = REGISTRATION_NETS[registration](ndim, **(registration_settings or {}))
        self.register_buffer("grey_levels", torch.linspace(0, 1, labels))

    def structure_map(self, probabilities: Tensor) -> Tensor:
        """Map `(batch, 1, *shape)` that stands for label probabilities `(batch, label, *shape)`."""
        return torch.einsum("bl...,l->b...", probabilities, self.grey_levels.to(probabilities.dtype))[:, None]

    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """Transform both images, then register their maps."""
        ours, theirs = self.transformer(torch.cat([fixed, moving])).float().chunk(2)
        known = theirs.softmax(1) if moving_labels is None else moving_labels.float()
        maps = (self.structure_map(ours.softmax(1)), self.structure_map(known))
        return Joint(self.registration(*maps, inverse=inverse), ours, theirs)
