"""Settings of training with data parameters, checked when they are made."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from covoxel.training.augmentation import Augmentation

Mode = Literal["out_of_line", "inline"]
Weighting = Literal["overlap", "log", "none"]


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
        What SparseAdam adds to the root mean square of a gradient before it divides by it (its `eps`), in units of
        the cohort's mean share of foreground. With next to nothing, every parameter moves by the rate at every step,
        and the sign of its gradient is all that is learnt; with more, a larger gradient moves it further.
    average
        The data parameters learn through the running average of the network's weights, of which so much is kept at
        every step; 0 for the network as it is. Out of line only.
    risk
        Whether equation 3 applies.
    weighting
        What makes up for the amount of foreground: "log" is equation 4, "overlap" is `losses.relative_to_overlap`.
    class_power
        Exponent of the class weights, `1 / voxels^power`.
    augmentation
        How the images of the network's step are changed; data parameters of "out_of_line" see unchanged ones.
    seed
        Of everything drawn in training. The weights the network starts from are its own.
    """

    mode: Mode = "out_of_line"
    epochs: int = 32
    warm_up: int = 12
    batch: int = 2
    pairs: int | None = None
    learning_rate: float = 0.01
    decay: float = 0.96
    weight_decay: float = 0.01
    clip: float = 1.0
    parameter_rate: float = 0.1
    damping: float = 0.003
    average: float = 0.97
    risk: bool = True
    weighting: Weighting = "overlap"
    class_power: float = 0.35
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("mode", get_args(Mode)), ("weighting", get_args(Weighting))):
            self._check(name, getattr(self, name) in known, f"one of {', '.join(known)}")
        for name, least in (("epochs", 1), ("warm_up", 0), ("batch", 1), ("pairs", 1)):
            value = getattr(self, name)
            self._check(name, value is None or value >= least, f"{least} or more")
        for name in ("learning_rate", "decay", "clip", "parameter_rate"):
            self._check(name, 0 < getattr(self, name) < math.inf, "finite and positive")
        for name in ("weight_decay", "damping", "class_power"):
            self._check(name, 0 <= getattr(self, name) < math.inf, "finite and not negative")
        self._check("average", 0 <= self.average < 1, "at least 0 and below 1")

    def _check(self, name: str, fits: bool, rule: str) -> None:
        if not fits:
            raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")
