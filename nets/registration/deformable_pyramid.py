"""Deformable pyramid after PWC-Net: at each level an affine map, a cost volume and a dense net."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nets.registration import affine
from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet
from nets.registration.heads import Motion, field_factor, make_head
from nets.registration.parts import block, coarser, full_precision, local_correlation, start_small, warp_features


class _Affine(nn.Module):
    """Affine map between two sets of features, in voxels, near the identity at the start.

    The linear part works on coordinates of -1 to 1 about the centre, so that all n (n + 1) numbers are
    displacements in voxels at the border and learn at one rate. Features are averaged over the four (eight) quarters
    of the grid before the last layers: a mean over all of it would not know a turn.
    """

    def __init__(self, ndim: int, width: int) -> None:
        super().__init__()
        self.ndim = ndim
        self.look = block(ndim, 2 * width, width)
        pool = nn.AdaptiveAvgPool3d(2) if ndim == 3 else nn.AdaptiveAvgPool2d(2)
        self.gather = nn.Sequential(pool, nn.Flatten(), nn.Linear(width * 2**ndim, width), nn.LeakyReLU(0.2))
        self.last = start_small(nn.Linear(width, ndim * (ndim + 1)))

    def forward(self, fixed: Tensor, moved: Tensor) -> Tensor:
        gathered = self.gather(self.look(torch.cat([fixed, moved], 1)))
        with full_precision(fixed):
            numbers = self.last(gathered.to(self.last.weight.dtype)).float().unflatten(1, (self.ndim, self.ndim + 1))
            half = numbers.new_tensor([max(side - 1, 1) / 2 for side in fixed.shape[2:]])
            linear = torch.eye(self.ndim, device=half.device) + numbers[:, :, :-1] / half
            matrix = affine.homogeneous(linear, numbers[:, :, -1])
            return affine.about(matrix, affine.middle(fixed.shape[2:], half))


class _Dense(nn.Module):
    """DenseNet block: each convolution sees all before it."""

    def __init__(self, ndim: int, inputs: int, growth: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(ndim, inputs + i * growth, growth) for i in range(depth))
        self.channels = inputs + depth * growth

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.blocks:
            x = torch.cat([x, layer(x)], 1)
        return x


class _Level(nn.Module):
    """One level: affine map, then cost volume and dense net for what it has left."""

    def __init__(self, ndim: int, width: int, reach: int, growth: int, depth: int, head: tuple[str, object]) -> None:
        super().__init__()
        self.reach = reach
        self.affine = _Affine(ndim, width)
        self.dense = _Dense(ndim, 2 * width + (2 * reach + 1) ** ndim, growth, depth)
        self.head = make_head(head[0], ndim, self.dense.channels, head[1])  # type: ignore[arg-type]

    def forward(self, fixed: Tensor, moving: Tensor, before: Motion | None, inverse: bool) -> tuple[Motion, Tensor]:
        moved = moving if before is None else warp_features(moving, before.displacement_vox)
        matrix = self.affine(fixed, moved)
        backward = affine.displacement(affine.inverse(matrix), fixed.shape[2:]) if inverse else None
        posed = Motion(affine.displacement(matrix, fixed.shape[2:]), None, backward).after(before)
        moved = warp_features(moving, posed.displacement_vox)
        seen = self.dense(torch.cat([fixed, moved, local_correlation(fixed, moved, reach=self.reach)], 1))
        motion: Motion = self.head(seen, inverse=inverse)
        return motion.after(posed), matrix


@REGISTRATION_NETS.register("deformable-pyramid")
class DeformablePyramid(RegistrationNet):
    """Shared feature pyramid of both images; affine map, correlation and dense net at each level.

    `levels` holds each level's field and affine matrix, for the weights of similarity, smoothness and closeness
    to the identity level by level that the paper trains with.

    Parameters
    ----------
    ndim
        2 or 3.
    widths
        Channels of the levels, finest first; four levels as in the paper. The default suits 35×50×36;
        full size (160×192×224): `(16, 32, 64, 96)` with `growth=16, depth=4`.
    reach
        Largest shift in the cost volume, voxels of the level.
    growth, depth
        Channels that each convolution of the dense net adds, and how many there are.
    head, head_settings
        What each dense net says: "displacement", "stationary" or "time-varying", and what that head takes.
    factor
        Voxels to a cell of the finest level, 1 or 2; by default 2, as PWC-Net stops before full resolution.

    References
    ----------
    Gunnarsson et al., Learning a deformable registration pyramid, MICCAI 2020 Learn2Reg challenge.
    Sun et al., PWC-Net: CNNs for optical flow using pyramid, warping, and cost volume, CVPR 2018.
    Different here: means over cells go down instead of strides; the affine map is composed, and sees features of
    the quarters of the image; the finest level is at half resolution unless asked otherwise.
    """

    def __init__(
        self,
        ndim: int,
        *,
        widths: Sequence[int] = (8, 16, 24, 32),
        reach: int = 1,
        growth: int = 8,
        depth: int = 3,
        head: str = "displacement",
        head_settings: Mapping[str, int] | None = None,
        factor: int = 2,
    ) -> None:
        super().__init__(ndim)
        self.factor = field_factor(head, factor)
        self.down = nn.ModuleList(
            nn.Sequential(block(ndim, a, b), block(ndim, b, b)) for a, b in zip([1, *widths], widths, strict=False)
        )
        self.levels = nn.ModuleList(
            _Level(ndim, width, reach, growth, depth, (head, head_settings)) for width in reversed(widths)
        )

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Fields from the coarsest level to the finest."""
        total: Motion | None = None
        levels: list[Level] = []
        for net, ours, theirs in zip(self.levels, self._pyramid(fixed), self._pyramid(moving), strict=True):
            total = None if total is None else total.onto(ours.shape[2:])
            total, matrix = net(ours, theirs, total, inverse)
            levels.append(total.level(matrix))
        assert total is not None
        return total.registered(fixed.shape[2:], self.factor, tuple(levels))

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """Features of an image, coarsest first."""
        x = coarser(image) if self.factor == 2 else image
        pyramid: list[Tensor] = []
        for down in self.down:
            pyramid.insert(0, down(coarser(pyramid[0]) if pyramid else x))
        return pyramid
