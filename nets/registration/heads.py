"""Heads: from features to a displacement, directly or as the flow of a stationary velocity."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from covoxel.registry import Registry
from covoxel.spatial import velocity
from covoxel.spatial.field import compose
from covoxel.spatial.smoothing import refine
from nets.registration.base import Level, Registered
from nets.registration.parts import convolution, full_precision, start_small


@dataclass(frozen=True, eq=False)
class Motion:
    """A displacement and how it came about; float32, all in voxels of one grid.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *shape)` from fixed to moving.
    velocity_vox
        `(batch, time, n, *shape)` whose flow it is, or None.
    inverse_vox
        `(batch, n, *shape)` from moving to fixed, or None.
    """

    displacement_vox: Tensor
    velocity_vox: Tensor | None = None
    inverse_vox: Tensor | None = None

    def after(self, before: "Motion | None") -> "Motion":
        """What is found with the moving image already warped by `before`: first this motion, then that one.

        The velocity is that of this motion alone.
        """
        if before is None:
            return self
        inverse = None
        with full_precision(self.displacement_vox):
            if self.inverse_vox is not None and before.inverse_vox is not None:
                inverse = compose(self.inverse_vox, before.inverse_vox)
            return Motion(compose(before.displacement_vox, self.displacement_vox), self.velocity_vox, inverse)

    def onto(self, shape: Sequence[int], factor: int = 2) -> "Motion":
        """The motion on a grid `factor` times finer of sides `shape`; the velocity stays behind."""
        inverse = None if self.inverse_vox is None else _finer(self.inverse_vox, shape, factor)
        return Motion(_finer(self.displacement_vox, shape, factor), None, inverse)

    def level(self, moving_from_fixed_vox: Tensor | None = None) -> Level:
        """The motion as one level of a pyramid."""
        return Level(self.displacement_vox, self.velocity_vox, moving_from_fixed_vox)

    def registered(self, shape: Sequence[int], factor: int, levels: tuple[Level, ...] = ()) -> Registered:
        """The answer of a network whose finest field has cells of `factor` voxels."""
        full = self.onto(shape, factor)
        whole = None if levels else self.velocity_vox
        return Registered(full.displacement_vox, whole, None, full.inverse_vox, levels)


def _finer(field_vox: Tensor, shape: Sequence[int], factor: int) -> Tensor:
    if factor == 1:
        return field_vox
    with full_precision(field_vox):
        return factor * refine(field_vox, [factor] * len(shape), shape)


class Head(nn.Module, ABC):
    """Last convolution of a network, in float32, and what its channels mean.

    Parameters
    ----------
    ndim
        2 or 3.
    channels
        Features of each voxel.
    fields
        Vector fields that are predicted.
    """

    def __init__(self, ndim: int, channels: int, fields: int = 1) -> None:
        super().__init__()
        self.fields = fields
        self.last = start_small(convolution(ndim, channels, fields * ndim))

    def forward(self, features: Tensor, *, inverse: bool = False) -> Motion:
        """Motion on the grid of the features, `(batch, channels, *shape)`; its inverse if asked for and cheap."""
        with full_precision(features):
            predicted: Tensor = self.last(features.to(next(self.parameters()).dtype)).float()
            shape = predicted.shape
            return self.motion(predicted.view(shape[0], self.fields, -1, *shape[2:]), inverse)

    @abstractmethod
    def motion(self, predicted: Tensor, inverse: bool) -> Motion:
        """Motion of what the convolution says, `(batch, fields, n, *shape)` float32."""


HEADS: Registry[Callable[..., Head]] = Registry("registration head", "nets.registration")


@HEADS.register("displacement")
class DisplacementHead(Head):
    """The channels are the displacement itself; may fold, has no cheap inverse.

    References
    ----------
    Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image registration, TMI 2019.
    """

    def motion(self, predicted: Tensor, inverse: bool) -> Motion:
        """As it is said."""
        return Motion(predicted[:, 0])


@HEADS.register("stationary")
class StationaryHead(Head):
    """The channels are a stationary velocity, integrated by scaling and squaring; the inverse is exp(-v).

    Parameters
    ----------
    squarings
        Always that many, VoxelMorph's 7: a number that followed the largest velocity would make the answer for a
        case depend on its batch, and wait for the device.

    References
    ----------
    Dalca et al., Unsupervised learning of probabilistic diffeomorphic registration, Med Image Anal 2019.
    Here without its variational sampling: the velocity is the mean.
    """

    def __init__(self, ndim: int, channels: int, *, squarings: int = 7) -> None:
        super().__init__(ndim, channels)
        if squarings < 1:
            raise ValueError(f"squarings must be at least 1, got {squarings}")
        self.squarings = squarings

    def motion(self, predicted: Tensor, inverse: bool) -> Motion:
        """Flow of the velocity after unit time."""
        forward = velocity.exp(predicted[:, 0], squarings=self.squarings)
        backward = velocity.exp(-predicted[:, 0], squarings=self.squarings) if inverse else None
        return Motion(forward, predicted, backward)


def make_head(name: str, ndim: int, channels: int, settings: Mapping[str, int] | None = None) -> Head:
    """Head of that name; `settings` are its own (`squarings`, `steps`)."""
    return HEADS[name](ndim, channels, **(settings or {}))


def field_factor(head: str, chosen: int | None) -> int:
    """Voxels to a cell of the field that a head says: as chosen, else 1 for a displacement and 2 for velocities.

    A velocity is smooth: at half the resolution its integration costs an eighth.
    """
    factor = chosen if chosen is not None else (1 if head == "displacement" else 2)
    if factor not in (1, 2):
        raise ValueError(f"factor must be 1 or 2, got {factor}")
    return factor
