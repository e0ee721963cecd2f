"""C2FViT: a coarse-to-fine vision transformer for affine registration."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from covoxel.spatial import warp
from covoxel.spatial.affine import AffineParameters
from nets.registration import affine
from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet
from nets.registration.parts import coarser, convolution, full_precision, start_small

Freedom = Literal["rigid", "similarity", "affine"]


class _Block(nn.Module):
    """Attention over all tokens; perceptron with a depth-wise convolution between its layers."""

    def __init__(self, ndim: int, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        hidden = ratio * channels
        self.before, self.after = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.widen, self.narrow = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mix = convolution(ndim, hidden, hidden, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[1:-1]
        tokens = x.flatten(1, -2)
        parts = self.qkv(self.before(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts.unbind(0))
        tokens = tokens + self.out(seen.transpose(1, 2).flatten(2))
        hidden = self.widen(self.after(tokens)).unflatten(1, grid)
        mixed = functional.gelu(self.mix(hidden.movedim(-1, 1))).movedim(1, -1)
        out: Tensor = (tokens + self.narrow(mixed.flatten(1, -2))).unflatten(1, grid)
        return out


class _Stage(nn.Module):
    """Overlapping patches of both images, transformer blocks, and what they add to the parameters."""

    def __init__(self, ndim: int, channels: int, stride: int, depth: int, heads: int, ratio: int, numbers: int) -> None:
        super().__init__()
        self.embed = convolution(ndim, 2, channels, 2 * stride - 1, stride=stride)
        self.blocks = nn.Sequential(*(_Block(ndim, channels, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.first = nn.Linear(channels, channels)
        self.last = start_small(nn.Linear(channels, numbers))

    def forward(self, images: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self.embed(images)
        if before is not None:
            x = x + functional.interpolate(before, size=x.shape[2:], mode="nearest")
        x = self.blocks(x.movedim(1, -1))
        mean = self.norm(x).flatten(1, -2).mean(1)
        hidden = torch.tanh(self.first(mean))
        with full_precision(images):
            weight = next(self.last.parameters())
            numbers: Tensor = self.last(hidden.to(weight.dtype)).float()
        return numbers, x.movedim(-1, 1)


@REGISTRATION_NETS.register("c2fvit")
class C2FViT(RegistrationNet):
    """Stages at 1/4, 1/2 and full resolution; each sees the moving image warped by the affine map so far.

    The map is `T R S H` about the middle, its parts bounded by tanh: rotation and shear to ±π, translation to half of
    the longest side, scale to 0.5 … 1.5. `levels` holds the map so far at each stage, on the stage's grid, for
    similarity at several resolutions.

    Parameters
    ----------
    ndim
        2 or 3.
    freedom
        "affine", "similarity" (one scale, no shear) or "rigid" (rotation and translation). In voxels: resample to
        equal spacing before a rigid one.
    centre
        Of rotation: "grid", the middle of the grid, or "mass", the fixed image's centre of mass (background 0).
    channels, depth, heads, ratio
        Channels of a token, blocks of a stage, heads, widening of the perceptron. The defaults suit 35×50×36; full size
        (160×192×224), the paper: `channels=256, depth=4, strides=(2, 4, 8)`.
    strides
        Voxels of the stage from one patch to the next; a patch is `2 stride - 1` wide. Doubled with the resolution
        they keep the number of tokens the same in all stages.

    References
    ----------
    Mok and Chung, Affine medical image registration with coarse-to-fine vision transformer, CVPR 2022.
    Different here: the numbers of a stage are added to those before it under the tanh, so that the bounds hold for the
    whole map and a rigid map stays rigid; rotation is a vector (axis times angle); no start at the centres of mass.
    """

    def __init__(
        self,
        ndim: int,
        *,
        freedom: Freedom = "affine",
        centre: Literal["grid", "mass"] = "grid",
        channels: int = 64,
        depth: int = 2,
        heads: int = 2,
        ratio: int = 2,
        strides: Sequence[int] = (1, 2, 4),
    ) -> None:
        super().__init__(ndim)
        if freedom not in ("rigid", "similarity", "affine") or centre not in ("grid", "mass"):
            raise ValueError(f"freedom or centre is unknown: {freedom!r}, {centre!r}")
        turns = ndim * (ndim - 1) // 2
        scales = {"rigid": 0, "similarity": 1, "affine": ndim}[freedom]
        self.centre = centre
        self.sizes = [ndim, turns, scales, turns if freedom == "affine" else 0]
        self.stages = nn.ModuleList(
            _Stage(ndim, channels, stride, depth, heads, ratio, sum(self.sizes)) for stride in strides
        )

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Parameters refined stage by stage."""
        shape = fixed.shape[2:]
        centre = self._centre(fixed)
        numbers = torch.zeros(fixed.shape[0], sum(self.sizes), device=fixed.device)
        matrix, tokens, levels = None, None, []
        for index, stage in enumerate(self.stages):
            factor = 2 ** (len(self.stages) - 1 - index)
            ours, theirs = (coarser(image, factor) for image in (fixed, moving))
            if matrix is not None:
                theirs = self._moved(theirs, affine.on_cells(matrix, factor))
            more, tokens = stage(torch.cat([ours, theirs], 1), tokens)
            with full_precision(fixed):
                numbers = numbers + more
                matrix = affine.about(self._matrix(numbers, max(shape)), centre)
                on_cells = affine.on_cells(matrix, factor)
                levels.append(Level(affine.displacement(on_cells, ours.shape[2:]), None, on_cells))
        assert matrix is not None
        with full_precision(fixed):
            backward = affine.displacement(affine.inverse(matrix), shape) if inverse else None
            forward = levels[-1].displacement_vox
        return Registered(forward, None, matrix, backward, tuple(levels))

    def _moved(self, moving: Tensor, matrix: Tensor) -> Tensor:
        with full_precision(moving):
            return warp(moving.float(), affine.displacement(matrix, moving.shape[2:])).to(moving.dtype)

    def _matrix(self, numbers: Tensor, longest: int) -> Tensor:
        """Map about the origin, `(batch, n + 1, n + 1)`, of the numbers of all stages."""
        shift, turn, scale, shear = torch.split(torch.tanh(numbers), self.sizes, 1)
        log_scale = torch.log1p(scale / 2).expand(-1, self.ndim) if self.sizes[2] else torch.zeros_like(shift)
        sheared = math.pi * shear if self.sizes[3] else torch.zeros_like(turn)
        parts = AffineParameters(longest / 2 * shift, math.pi * turn, log_scale, sheared)
        return parts.matrix([0.0] * self.ndim)

    def _centre(self, fixed: Tensor) -> Tensor:
        """Centre of rotation, `(batch or 1, n)` voxels."""
        middle = affine.middle(fixed.shape[2:], fixed.float())
        if self.centre == "grid":
            return middle
        mass = fixed.float().clamp(min=0)[:, 0]
        total = mass.flatten(1).sum(1).clamp(min=1e-6)
        sums = []
        for axis, side in enumerate(fixed.shape[2:], start=1):
            others = [a for a in range(1, mass.ndim) if a != axis]
            profile = mass.sum(others)
            sums.append(profile @ torch.arange(side, device=mass.device, dtype=mass.dtype) / total)
        return torch.stack(sums, 1)
