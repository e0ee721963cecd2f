"""Pieces that the registration networks share: convolutions for 2-D and 3-D, steps between levels, warping."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from covoxel.spatial import warp
from covoxel.spatial.smoothing import cell_means

SLOPE = 0.2
"""Negative slope of every LeakyReLU, VoxelMorph's."""

_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class _Conv3d(nn.Conv3d):
    """Convolution that does not crawl for a pair on a CPU.

    torch gives oneDNN only batches and large images; one small volume gets a convolution that takes 20 times as long.
    """

    def forward(self, input: Tensor) -> Tensor:
        alone = input.device.type == "cpu" and input.shape[0] == 1 and input.dtype == self.weight.dtype == torch.float32
        if alone and _ONEDNN and not torch.is_autocast_enabled("cpu"):
            steps = list(self.stride), list(self.dilation)
            padding = [side // 2 for side in self.kernel_size]
            return torch.mkldnn_convolution(input, self.weight, self.bias, padding, *steps, self.groups)
        return super().forward(input)


def convolution(ndim: int, inputs: int, outputs: int, kernel: int = 3, **settings: Any) -> nn.Module:
    """Convolution of 2 or 3 dimensions that keeps the sides (stride 1) or gives `ceil(side / stride)` of them."""
    kind = {2: nn.Conv2d, 3: _Conv3d}[ndim]
    return kind(inputs, outputs, kernel, padding=kernel // 2, **settings)


def block(ndim: int, inputs: int, outputs: int, **settings: Any) -> nn.Module:
    """Convolution and LeakyReLU, in place: backward needs only what comes out. No norm: one voxel must do.

    Weights are drawn so that features keep their variance from layer to layer (He et al., ICCV 2015).
    """
    layer = convolution(ndim, inputs, outputs, **settings)
    for parameter in layer.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, a=SLOPE)
        else:
            nn.init.zeros_(parameter)
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE, inplace=True))


def start_small(layer: nn.Module) -> nn.Module:
    """Draw the weights of a last layer from N(0, 1e-5), biases zero: the untrained network says zero."""
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=1e-5)
    return layer


def coarser(x: Tensor, factor: int = 2) -> Tensor:
    """Mean over cells of `factor` voxels an axis, `(batch, channel, *ceil(shape / factor))`, in the type of `x`."""
    poolable = x.float() if x.device.type == "cpu" else x  # CPUs pool volumes in float32 alone
    return cell_means(poolable, [min(factor, side) for side in x.shape[2:]]).to(x.dtype)


def double(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Each feature twice along every axis, cut to `shape`; the way back of `coarser` for features."""
    for axis, side in enumerate(shape, start=2):
        x = x.repeat_interleave(2, axis).narrow(axis, 0, side)
    return x


def warp_features(features: Tensor, displacement_vox: Tensor) -> Tensor:
    """Features of the moving image seen from the fixed grid; sampled in float32, given back in their own type."""
    with full_precision(features):
        return warp(features.float(), displacement_vox).to(features.dtype)


def full_precision(like: Tensor) -> torch.autocast:
    """Context without autocast on the device of `like`: fields need more digits than features."""
    return torch.autocast(like.device.type, enabled=False)


def local_correlation(fixed: Tensor, moved: Tensor, *, reach: int = 1, patch: int = 0) -> Tensor:
    """Likeness of each fixed feature to the moved features around it, `(batch, (2 reach + 1)^n, *shape)`.

    `c_s(x) = mean over |n| <= patch, mean over channels of fixed(x + n) moved(x + s + n)` for all `|s| <= reach`,
    zero outside the image. Only one shifted product is in memory at a time, none is kept for backward.

    Parameters
    ----------
    fixed, moved
        `(batch, channel, *shape)`.
    reach
        Largest shift along an axis, voxels.
    patch
        Radius of the patches that are compared, voxels.

    References
    ----------
    Kang et al., Dual-stream pyramid registration network, Med Image Anal 2022 (patch 1).
    Sun et al., PWC-Net, CVPR 2018 (patch 0).
    """
    ndim, width = fixed.ndim - 2, 2 * reach + 1
    padded = functional.pad(moved, [reach] * (2 * ndim))
    planes = []
    for offset in torch.cartesian_prod(*[torch.arange(width)] * ndim).tolist():
        shifted = padded
        for axis, (start, side) in enumerate(zip(offset, fixed.shape[2:], strict=True), start=2):
            shifted = shifted.narrow(axis, start, side)
        planes.append((fixed * shifted).mean(1))
    likeness = torch.stack(planes, 1)
    if not patch:
        return likeness
    return _box_mean(likeness, patch)


def _box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over boxes, zero outside; one axis after the other."""
    width = 2 * radius + 1
    for axis in range(2, x.ndim):
        border = [0] * (2 * (x.ndim - 1 - axis)) + [radius, radius]
        padded = functional.pad(x, border)
        total = padded.narrow(axis, 0, x.shape[axis])
        for start in range(1, width):
            total = total + padded.narrow(axis, start, x.shape[axis])
        x = total
    return x * float(width) ** (2 - x.ndim)
