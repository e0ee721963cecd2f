"""Small U-Net: two convolutions a level, three levels, linear upsampling."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nets.blocks import ConvNormAct, check_input, convolution, crop, initialise, pad_to_multiple, resize
from nets.segmentation import SEGMENTATION_NETS


@SEGMENTATION_NETS.register("unet")
class UNet(nn.Module):
    """U-Net with instance norm and SiLU.

    Parameters
    ----------
    ndim
        2 or 3.
    labels
        Number of labels, background included.
    inputs
        Channels of the image.
    widths
        Channels of each level, finest first; each level has half the resolution of the one before.

    References
    ----------
    Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015;
    Çiçek et al., 3D U-Net, MICCAI 2016.
    """

    def __init__(self, *, ndim: int, labels: int, inputs: int = 1, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.ndim, self.inputs = ndim, inputs
        self.multiple = 2 ** (len(widths) - 1)
        before = (inputs, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(ndim, first, width, stride=1 if level == 0 else 2), ConvNormAct(ndim, width, width)
            )
            for level, (first, width) in enumerate(zip(before, widths, strict=True))
        )
        self.narrow = nn.ModuleList(
            ConvNormAct(ndim, deep, fine, 1) for fine, deep in zip(widths[:-1], widths[1:], strict=True)
        )
        self.up = nn.ModuleList(ConvNormAct(ndim, 2 * width, width) for width in widths[:-1])
        self.head = convolution(ndim, widths[0], labels, 1)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(batch, labels, *shape)` of `image` `(batch, inputs, *shape)`."""
        check_input(image, self.ndim, self.inputs)
        x = pad_to_multiple(image, self.multiple)
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skips.pop()
        for narrow, up, skip in reversed(list(zip(self.narrow, self.up, skips, strict=True))):
            x = up(torch.cat([resize(narrow(x), skip.shape[2:]), skip], 1))
        logits: Tensor = self.head(x)
        return crop(logits, image.shape[2:])
