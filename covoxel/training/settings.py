"""Settings of training with data parameters, checked when they are made."""

import math
from dataclasses import dataclass, field
from typing import Literal

from covoxel.training.augmentation import Augmentation

Mode = Literal["out_of_line", "inline"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a network and the data parameters are trained together.

    Parameters
    ----------
    mode
        "out_of_line": each step first trains the network on the plain cross-entropy, then, through the network as it
        is now, the data parameters alone. "inline": one loss for both.
    epochs
        Passes over the cohort.
    warm_up
        Epochs before the data parameters are switched on.
    batch
        Cases in a step, each with its pairs.
    pairs
        At most so many pairs, drawn at random, of each case in a step; None takes all. A case costs the network the
        same whatever their number.
    learning_rate, decay, weight_decay
        Of AdamW for the network; the rate is multiplied by `decay` after every epoch.
    clip
        Largest norm of the network's gradient.
    parameter_rate
        Learning rate of SparseAdam for the data parameters.
    damping
        What is added to the root mean square of a parameter's gradient, in units of the mean gradient of the case,
        before Adam divides by it. See `docs/decisions/0008-data-parameters.md`.
    risk, fixed_weighting
        Whether equations 3 and 4 apply.
    class_power
        Exponent of the class weights, `1 / voxels^power`.
    augmentation
        How the images of the network's step are changed; data parameters of "out_of_line" see unchanged ones.
    seed
        Of everything drawn in training. The weights the network starts from are its own.
    """

    mode: Mode = "out_of_line"
    epochs: int = 30
    warm_up: int = 5
    batch: int = 2
    pairs: int | None = None
    learning_rate: float = 0.01
    decay: float = 0.96
    weight_decay: float = 0.01
    clip: float = 1.0
    parameter_rate: float = 0.1
    damping: float = 1.0
    risk: bool = True
    fixed_weighting: bool = True
    class_power: float = 0.35
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("out_of_line", "inline"):
            raise ValueError(f"mode must be 'out_of_line' or 'inline', got {self.mode!r}")
        for name, least in (("epochs", 1), ("warm_up", 0), ("batch", 1), ("pairs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")
        for name in ("learning_rate", "decay", "clip", "parameter_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be finite and positive, got {value}")
        for name in ("weight_decay", "damping", "class_power"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
