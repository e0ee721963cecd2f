"""Building blocks that networks share, in 2-D and in 3-D by one argument, and padding for any size of input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def convolution(ndim: int, inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Module:
    """Convolution in `ndim` dimensions that keeps the size at stride 1; `options` as for `torch.nn.Conv3d`."""
    if ndim not in _CONVOLUTIONS:
        raise ValueError(f"ndim must be 2 or 3, got {ndim}")
    dilation = options.get("dilation", 1)
    padding = kernel // 2 * (dilation if isinstance(dilation, int) else 1)
    return _CONVOLUTIONS[ndim](inputs, outputs, kernel, padding=padding, **options)


def instance_norm(ndim: int, channels: int) -> nn.Module:
    """Normalisation of each channel of each image over its voxels, with a learnt scale and offset."""
    return _NORMS[ndim](channels, affine=True)


class ConvNormAct(nn.Sequential):
    """Convolution without bias (the norm would take it away), instance norm, and SiLU unless `act` is false."""

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        layers = [
            convolution(ndim, inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups, bias=False),
            instance_norm(ndim, outputs),
        ]
        super().__init__(*layers, *([nn.SiLU()] if act else []))


class SqueezeExcite(nn.Module):
    """Channels weighted by what their means over the image say.

    References
    ----------
    Hu et al., Squeeze-and-excitation networks, CVPR 2018.
    """

    def __init__(self, ndim: int, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.weigh = nn.Sequential(
            convolution(ndim, channels, hidden, 1),
            nn.SiLU(),
            convolution(ndim, hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`x` `(batch, channel, *shape)`, weighted."""
        weights: Tensor = self.weigh(spatial_mean(x))
        return x * weights


class InvertedResidual(nn.Module):
    """Widened by a pointwise convolution, filtered channel by channel, weighed, and narrowed again.

    References
    ----------
    Howard et al., Searching for MobileNetV3, ICCV 2019.
    """

    def __init__(
        self, ndim: int, inputs: int, outputs: int, *, expansion: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.keep = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            ConvNormAct(ndim, inputs, wide, 1),
            ConvNormAct(ndim, wide, wide, stride=stride, dilation=dilation, groups=wide),
            SqueezeExcite(ndim, wide),
            ConvNormAct(ndim, wide, outputs, 1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, outputs, *shape / stride)` of `x` `(batch, inputs, *shape)`."""
        y: Tensor = self.body(x)
        return x + y if self.keep else y


def spatial_mean(x: Tensor) -> Tensor:
    """Mean over the voxels, every axis kept with one voxel."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def resize(x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` `(batch, channel, *any)` interpolated linearly to `shape`."""
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    return functional.interpolate(x, size=tuple(shape), mode=mode, align_corners=False)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`x` `(batch, channel, *shape)` with its border repeated at the ends, up to multiples of `multiple`.

    An axis has at least two multiples, so that norms of the coarsest level have something to normalise.
    """
    padding: list[int] = []
    for side in reversed(x.shape[2:]):
        padding += [0, max(2, -(-side // multiple)) * multiple - side]
    return functional.pad(x, padding, mode="replicate") if any(padding) else x


def crop(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The first `shape` voxels of `x` along each axis: the way back of `pad_to_multiple`."""
    for axis, side in enumerate(shape, start=2):
        x = x.narrow(axis, 0, side)
    return x


def parameter_count(network: nn.Module) -> int:
    """Number of learnable numbers of `network`."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def check_input(x: Tensor, ndim: int, channels: int) -> None:
    """Raise a ValueError unless `x` is `(batch, channels, *shape)` with `ndim` axes of at least one voxel."""
    if x.ndim != ndim + 2 or x.shape[1] != channels or min(x.shape) < 1:
        raise ValueError(f"the input must be (batch, {channels}, *shape) with {ndim} axes, got {tuple(x.shape)}")


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """He initialisation of every convolution, zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
