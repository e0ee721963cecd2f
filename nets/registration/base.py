"""What a registration network is: two images on one grid in, a displacement from fixed to moving out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from covoxel.registry import Registry


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a pyramid or one stage of a cascade, for losses level by level; each field on its own grid.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *coarse)` float32, everything found up to this level, in voxels of the level. Its grid has
        cells of `factor` voxels, `coarse = ceil(shape / factor)`, as `covoxel.spatial.smoothing.cell_means` makes.
    velocity_vox
        `(batch, time, n, *coarse)` of this level's own part, where the head has a velocity.
    moving_from_fixed_vox
        `(batch, n + 1, n + 1)` this level's own affine part, in voxels of the level, where it has one.
    """

    displacement_vox: Tensor
    velocity_vox: Tensor | None = None
    moving_from_fixed_vox: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Registered:
    """What a network says of a pair; float32 whatever the precision of the network.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *shape)` on the fixed grid, from fixed to moving: `moved(x) = moving(x + u(x))`.
    velocity_vox
        `(batch, time, n, *coarse)`, voxels of its own grid per unit time, where one velocity makes the whole
        displacement; `time` is 1 for a stationary velocity. None otherwise (pyramids: see `levels`).
    moving_from_fixed_vox
        `(batch, n + 1, n + 1)` voxels to voxels, where the displacement is affine.
    inverse_displacement_vox
        `(batch, n, *shape)` from moving to fixed, if it was asked for and the head has a cheap one.
    levels
        Coarsest level or first stage first, the last one included; empty for networks of one level.
    """

    displacement_vox: Tensor
    velocity_vox: Tensor | None = None
    moving_from_fixed_vox: Tensor | None = None
    inverse_displacement_vox: Tensor | None = None
    levels: tuple[Level, ...] = ()


class RegistrationNet(nn.Module, ABC):
    """Checks a pair and hands it to the architecture.

    Any size of image is taken: levels have `ceil(side / 2)` cells, so nothing is padded and nothing cropped.
    Convolutions run in the precision of the weights or of the autocast around the call; fields, integration and
    sampling in float32. An untrained network says zero (last layers drawn from N(0, 1e-5), as VoxelMorph does).

    Parameters
    ----------
    ndim
        2 or 3.
    """

    def __init__(self, ndim: int) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, got {ndim}")
        self.ndim = ndim

    def forward(self, fixed: Tensor, moving: Tensor, *, inverse: bool = False) -> Registered:
        """Register each pair of a batch.

        Parameters
        ----------
        fixed, moving
            `(batch, 1, *shape)`, one grid, intensities of about 0 to 1.
        inverse
            Also say the inverse displacement, where the head has a cheap one.

        Raises
        ------
        ValueError
            If the images differ in shape or are not `(batch, 1, *shape)` with `ndim` sides.
        """
        if fixed.ndim != self.ndim + 2 or fixed.shape[1] != 1:
            raise ValueError(f"fixed must be (batch, 1, *shape) with {self.ndim} sides, got {tuple(fixed.shape)}")
        if moving.shape != fixed.shape:
            raise ValueError(
                f"moving must have the shape of fixed, {tuple(fixed.shape)}, got {tuple(moving.shape)}; "
                "resample one onto the grid of the other first"
            )
        weight = next(self.parameters())
        return self.register_pair(fixed.to(weight.dtype), moving.to(weight.dtype), inverse)

    @abstractmethod
    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Register images that are checked and in the precision of the weights."""


REGISTRATION_NETS: Registry[Callable[..., RegistrationNet]] = Registry("registration network", "nets.registration")
"""Call one with `ndim` and its settings: `REGISTRATION_NETS["voxelmorph-1"](3, head="stationary")`."""


def count_parameters(module: nn.Module) -> int:
    """Number of trainable numbers in a network."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
