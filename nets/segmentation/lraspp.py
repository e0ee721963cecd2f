"""LR-ASPP on a MobileNet-like backbone: inverted residuals, a pooled gate, and skips from the fine levels."""

import torch
from torch import Tensor, nn

from nets.blocks import (
    ConvNormAct,
    InvertedResidual,
    check_input,
    convolution,
    crop,
    initialise,
    pad_to_multiple,
    resize,
    spatial_mean,
)
from nets.segmentation import SEGMENTATION_NETS

_MULTIPLE = 4


@SEGMENTATION_NETS.register("lraspp")
class LRASPP(nn.Module):
    """Compact network after LR-ASPP MobileNetV3, for small volumes.

    The backbone halves the resolution twice, where MobileNetV3 does so five times for images of 224 pixels, and widens
    its view by dilation instead. The head gates the deep features by their mean over the image; upsampled,
    they are merged with those of the half resolution, whose logits are added to those of the full one.

    Parameters
    ----------
    ndim
        2 or 3.
    labels
        Number of labels, background included.
    inputs
        Channels of the image.
    width
        Channels at half resolution; a quarter has twice as many, the full resolution half as many.

    References
    ----------
    Howard et al., Searching for MobileNetV3, ICCV 2019 (LR-ASPP);
    Weihsbach et al., DeepSTAPLE, WBIR 2022 (its use in 3-D with data parameters).
    """

    def __init__(self, *, ndim: int, labels: int, inputs: int = 1, width: int = 16) -> None:
        super().__init__()
        self.ndim, self.inputs = ndim, inputs
        quarter = 2 * width
        self.fine = ConvNormAct(ndim, inputs, width // 2)
        self.stem = ConvNormAct(ndim, inputs, width, stride=2)
        self.middle = InvertedResidual(ndim, width, width)
        self.coarse = nn.Sequential(
            InvertedResidual(ndim, width, quarter, stride=2),
            InvertedResidual(ndim, quarter, quarter, dilation=2),
            InvertedResidual(ndim, quarter, quarter, dilation=3),
        )
        self.deep = ConvNormAct(ndim, quarter, quarter, 1)
        self.gate = nn.Sequential(convolution(ndim, quarter, quarter, 1), nn.Sigmoid())
        self.merge = ConvNormAct(ndim, width + quarter, width)
        self.from_middle = convolution(ndim, width, labels, 1)
        self.from_fine = convolution(ndim, width // 2, labels, 1, bias=False)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(batch, labels, *shape)` of `image` `(batch, inputs, *shape)`."""
        check_input(image, self.ndim, self.inputs)
        x = pad_to_multiple(image, _MULTIPLE)
        fine, middle = self.fine(x), self.middle(self.stem(x))
        coarse = self.coarse(middle)
        deep = self.deep(coarse) * self.gate(spatial_mean(coarse))
        middle = self.merge(torch.cat([middle, resize(deep, middle.shape[2:])], 1))
        logits = resize(self.from_middle(middle), fine.shape[2:]) + self.from_fine(fine)
        return crop(logits, image.shape[2:])
