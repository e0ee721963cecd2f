"""What training reads of a registration network's answer, whatever class it is."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


class LevelLike(Protocol):
    """One level of a pyramid or stage of a cascade; see `nets.registration.Level`."""

    @property
    def displacement_vox(self) -> Tensor:
        """`(batch, n, *coarse)`, voxels of the level."""
        ...

    @property
    def velocity_vox(self) -> Tensor | None:
        """`(batch, time, n, *coarse)`."""
        ...

    @property
    def moving_from_fixed_vox(self) -> Tensor | None:
        """`(batch, n + 1, n + 1)`, voxels of the level."""
        ...


class RegisteredLike(LevelLike, Protocol):
    """What a network returns; see `nets.registration.Registered`."""

    @property
    def levels(self) -> Sequence[LevelLike]:
        """Coarsest or first one first; empty where there are none."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A cascade; trained stage after stage if its schedule is "frozen"."""

    schedule: str
    stages: Sized

    def train_stage(self, stage: int | None) -> None:
        """Train one stage and freeze all others; None: all run and none is frozen."""
        ...


def stages_of(network: Any) -> int:
    """Number of stages that are trained one after the other; 1 for a network that is trained as a whole."""
    if isinstance(network, Staged) and network.schedule == "frozen":
        return len(network.stages)
    return 1


@dataclass(frozen=True, eq=False)
class Field:
    """A displacement and how it came about; parts as of `LevelLike`."""

    displacement_vox: Tensor
    velocity_vox: Tensor | None = None
    moving_from_fixed_vox: Tensor | None = None

    @classmethod
    def of(cls, said: LevelLike) -> "Field":
        """What the network said, in full precision."""
        parts = (said.displacement_vox, said.velocity_vox, said.moving_from_fixed_vox)
        return cls(*(None if part is None else part.float() for part in parts))  # type: ignore[arg-type]

    def rows(self, wanted: slice) -> "Field":
        """Of some pairs."""
        parts = (self.displacement_vox, self.velocity_vox, self.moving_from_fixed_vox)
        return Field(*(None if part is None else part[wanted] for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Answer:
    """The whole displacement, and the levels on the way to it."""

    whole: Field
    levels: tuple[Field, ...] = ()

    @classmethod
    def of(cls, said: RegisteredLike) -> "Answer":
        """What the network said."""
        return cls(Field.of(said), tuple(Field.of(level) for level in said.levels))

    def rows(self, wanted: slice) -> "Answer":
        """Of some pairs."""
        return Answer(self.whole.rows(wanted), tuple(level.rows(wanted) for level in self.levels))

    @property
    def coarser(self) -> tuple[Field, ...]:
        """The levels without one that is the whole displacement itself."""
        last = bool(self.levels) and self.levels[-1].displacement_vox.shape == self.whole.displacement_vox.shape
        return self.levels[:-1] if last else self.levels


def cells(shape: Sequence[int], coarse: Sequence[int]) -> int:
    """Voxels to a cell along each axis of a level whose sides are `ceil(shape / factor)`.

    Raises
    ------
    ValueError
        If there is no such number.
    """
    for factor in range(1, max(shape) + 1):
        if all(-(-side // factor) == cells for side, cells in zip(shape, coarse, strict=True)):
            return factor
    raise ValueError(f"a level must have sides of {tuple(shape)} divided by one whole number, got {tuple(coarse)}")
