"""Profiles: how large the network is and how long it is trained; each field can be overridden."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal

PlannerName = Literal["default", "resenc"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Profile:
    """Settings of planning and training.

    Parameters
    ----------
    name
        Of the profile it is or began as.
    configuration
        `3d_fullres` or `2d`; None: by the number of axes of the images. `2d` of 3-D images takes them slice by slice.
    planner
        `default`, or `resenc`: nnU-Net's recommendation of a residual encoder (L).
    patch
        Sides of the patch, voxels in nnU-Net's order of axes; None: what the planner says, within `patch_voxels`.
    patch_voxels
        Most voxels of a patch that the planner may choose; None: no bound but its own.
    batch
        Patches a step; None: what the planner says.
    features, most_features
        Channels of the first stage, and of any stage; None: what the planner says.
    epochs, iterations
        Epochs, and steps in each; the learning rate falls from epoch to epoch by nnU-Net's rule.
    learning_rate, momentum, weight_decay
        Of the optimiser. With nnU-Net's momentum of 0.99 the loss first runs to where all is background, and takes
        hundreds of steps to come back, which a short training does not have.
    deep_supervision
        Whether coarser outputs are taught too.
    mirroring
        Whether images are mirrored in training, and thus at prediction; False where left and right have labels of
        their own.
    augmentation
        `full`: nnU-Net's; `light`: without its blur and its simulated low resolution, which cost most on a CPU.
    foreground
        Share of each batch whose patches surely have a structure.
    average
        How much a running average of the weights keeps at each step, if that is to be the model; 0: none.
    workers
        Processes that prepare batches; 0: the training's own. The number changes no bit of the result.
    precision
        Of the network: `auto` is float16 on a GPU, as nnU-Net has it, and bfloat16 on a CPU that is made for it.
    save_every
        Epochs from one checkpoint to the next.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str = "gpu"
    configuration: Literal["3d_fullres", "2d"] | None = None
    planner: PlannerName = "default"
    patch: tuple[int, ...] | None = None
    patch_voxels: int | None = None
    batch: int | None = None
    features: int | None = None
    most_features: int | None = None
    epochs: int = 1000
    iterations: int = 250
    learning_rate: float = 1e-2
    momentum: float = 0.99
    weight_decay: float = 3e-5
    deep_supervision: bool = True
    mirroring: bool = True
    foreground: float = 0.33
    average: float = 0.0
    workers: int = 0
    precision: Precision = "auto"
    save_every: int = 50

    def __post_init__(self) -> None:
        for name in ("epochs", "iterations", "save_every", "batch", "features", "most_features", "patch_voxels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("foreground", "average", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "workers"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.patch is not None and min(self.patch, default=0) < 8:
            raise ValueError(f"patch must have sides of at least 8 voxels, got {self.patch}")

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.epochs * self.iterations

    def of_steps(self, steps: int) -> "Profile":
        """The same with as near to `steps` as whole epochs of at most `iterations` come, at least one."""
        iterations = min(self.iterations, max(1, steps))
        return replace(self, iterations=iterations, epochs=max(1, round(steps / iterations)))


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "cpu": Profile(
            "cpu",
            patch_voxels=96_000,
            batch=2,
            features=16,
            most_features=128,
            epochs=160,
            iterations=25,
            learning_rate=0.05,
            momentum=0.9,
            average=0.99,
            save_every=4,
        ),
        "gpu": Profile("gpu", workers=8),
        "gpu-resenc": Profile("gpu-resenc", planner="resenc", workers=8),
    }
)
"""By name: small enough to train on two cores; nnU-Net's default; its recommendation of a residual encoder."""


def profile(name: str, **fields: Any) -> Profile:
    """Profile of that name, with fields of other values.

    Raises
    ------
    ValueError
        If there is no such profile or field, or a value is not allowed.
    """
    if name not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    unknown = sorted(set(fields) - {each.name for each in dataclass_fields(Profile)})
    if unknown:
        raise ValueError(f"a profile has no field {unknown[0]!r}")
    return replace(PROFILES[name], **fields)
