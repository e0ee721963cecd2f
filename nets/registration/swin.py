"""Swin transformer blocks for 2-D and 3-D feature maps of any size.

With the same weights they say what MONAI's `SwinTransformerBlock` says, where windows divide the map. Elsewhere MONAI's
attend to padding, and give the positions in a map smaller than a window the biases of other positions; and importing
them takes every process two seconds and brings along readers of images.

References
----------
Liu et al., Swin transformer: hierarchical vision transformer using shifted windows, ICCV 2021.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias for each relative position.

    Windows are shifted by half of their side if `shifted`; cells that are neighbours only by the cyclic shift, and
    cells of padding, do not see each other. A map smaller than a window is one window of its own size, and its
    positions keep their relative meaning.

    Parameters
    ----------
    ndim
        2 or 3.
    channels, heads
        Channels, divisible by heads.
    window
        Side of a window, cells.
    shifted
        Whether the windows are shifted.
    """

    def __init__(self, ndim: int, channels: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be divisible by heads, got {channels} and {heads}")
        self.heads, self.window, self.shifted = heads, window, shifted
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty(heads, *[2 * window - 1] * ndim))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attention over `x`, `(batch, *grid, channels)`."""
        grid = x.shape[1:-1]
        sides = [min(self.window, side) for side in grid]
        shifts = [side // 2 if self.shifted and whole > side else 0 for side, whole in zip(sides, grid, strict=True)]
        padding = [-whole % side for side, whole in zip(sides, grid, strict=True)]
        x = functional.pad(x, [0, 0, *(p for extra in reversed(padding) for p in (0, extra))])
        padded = x.shape[1:-1]
        axes = tuple(range(1, x.ndim - 1))
        moved = x.roll([-s for s in shifts], axes) if any(shifts) else x
        seen = self._attend(windows(moved, sides), self._mask(grid, sides, shifts, padding, x))
        moved = unwindows(seen, sides, padded)
        x = moved.roll(shifts, axes) if any(shifts) else moved
        for axis, side in enumerate(grid, start=1):
            x = x.narrow(axis, 0, side)
        return x

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention in windows `(batch, window, token, channels)` under `(1 or window, heads, token, token)`."""
        batch, count, tokens, channels = x.shape
        parts = self.qkv(x).view(batch * count, tokens, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mask = mask.to(query.dtype).expand(batch, count, *mask.shape[1:]).flatten(0, 1)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out(seen.transpose(1, 2).reshape(batch, count, tokens, channels))
        return out

    def _mask(
        self, grid: Sequence[int], sides: Sequence[int], shifts: Sequence[int], padding: Sequence[int], like: Tensor
    ) -> Tensor:
        bias = self._relative_bias(sides)[None]
        if not any(shifts) and not any(padding):
            return bias
        region = torch.zeros((), dtype=torch.long, device=like.device)
        for axis, whole in enumerate(grid):
            part = _regions(whole, sides[axis], shifts[axis], padding[axis]).to(like.device)
            region = 4 * region + part.view([-1 if a == axis else 1 for a in range(len(grid))])
        groups = windows(region[None, ..., None], sides)[0, ..., 0]
        apart = groups[:, None, :, None] != groups[:, None, None, :]
        return bias.masked_fill(apart, -torch.inf)

    def _relative_bias(self, sides: Sequence[int]) -> Tensor:
        """Bias of each pair of tokens of a window of these sides, `(heads, token, token)`."""
        device = self.bias.device
        axes = [torch.arange(side, device=device) for side in sides]
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        offset = cells[:, :, None] - cells[:, None, :] + self.window - 1
        place = torch.zeros_like(offset[0])
        for along in offset:
            place = place * (2 * self.window - 1) + along
        return self.bias.flatten(1)[:, place]


def _regions(whole: int, side: int, shift: int, padding: int) -> Tensor:
    """Number of the region of each cell along one axis, after padding and shift; regions do not see each other."""
    part = torch.zeros(whole + padding, dtype=torch.long)
    part[whole:] = 1
    part = part.roll(-shift)
    if shift:
        part[-shift:] += 2
    return part


def windows(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Windows of `x` `(batch, *grid, channels)`, sides dividing it, as `(batch, window, token, channels)`."""
    n = len(sides)
    split = [number for whole, side in zip(x.shape[1:-1], sides, strict=True) for number in (whole // side, side)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    order = [0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1]
    return x.permute(order).flatten(n + 1, 2 * n).flatten(1, n)


def unwindows(x: Tensor, sides: Sequence[int], grid: Sequence[int]) -> Tensor:
    """The way back of `windows`, `(batch, *grid, channels)`."""
    n = len(sides)
    counts = [whole // side for whole, side in zip(grid, sides, strict=True)]
    x = x.view(x.shape[0], *counts, *sides, x.shape[-1])
    order = [0, *(place for axis in range(1, n + 1) for place in (axis, n + axis)), 2 * n + 1]
    return x.permute(order).reshape(x.shape[0], *grid, x.shape[-1])


class SwinBlock(nn.Module):
    """Window attention and a multilayer perceptron, each after a norm and around a shortcut."""

    def __init__(self, ndim: int, channels: int, heads: int, window: int, shifted: bool, ratio: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(ndim, channels, heads, window, shifted)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, ratio * channels),
            nn.GELU(),
            nn.Linear(ratio * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, *grid, channels)`."""
        x = x + self.attention(self.norm(x))
        out: Tensor = x + self.mlp(x)
        return out


class PatchMerging(nn.Module):
    """Cells of two an axis side by side, to twice the channels at half the resolution."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.ndim = ndim
        self.norm = nn.LayerNorm(channels * 2**ndim)
        self.reduce = nn.Linear(channels * 2**ndim, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, *grid, channels)` to `(batch, *ceil(grid / 2), 2 channels)`; an odd last cell is met by zeros."""
        odd = [side % 2 for side in reversed(x.shape[1:-1])]
        x = functional.pad(x, [0, 0, *(p for extra in odd for p in (0, extra))])
        parts = [x[(slice(None), *(slice(o, None, 2) for o in corner))] for corner in product((0, 1), repeat=self.ndim)]
        out: Tensor = self.reduce(self.norm(torch.cat(parts, -1)))
        return out
