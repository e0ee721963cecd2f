"""Recipe: everything that decides what a registration network learns, in plain values that a YAML file can hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from covoxel.registration.model import Alignment
from covoxel.training.augmentation import Augmentation

Supervision = Literal["images", "labels", "warps"]
PairKind = Literal["inter", "within"]
Option = bool | int | float | str


def require(fits: bool, key: str, rule: str, value: object) -> None:
    """Raise a ValueError that names key, rule and value, unless the value fits."""
    if not fits:
        raise ValueError(f"{key} must be {rule}, got {value!r}")


@dataclass(frozen=True)
class Term:
    """A registered loss, its weight in the sum, and its options.

    Parameters
    ----------
    name
        In the registry of `covoxel.losses.base` that the place in the recipe calls for.
    weight
        Factor of the loss; 0 leaves it out.
    options
        Keyword arguments of the loss, `radius` of "lncc" for one.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    weight: float = 1.0
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.name), "name", "the name of a loss", self.name)
        require(finite(self.weight) and self.weight >= 0, "weight", "finite and not negative", self.weight)
        for key, value in self.options.items():
            require(isinstance(value, Option), f"options.{key}", "a number, a word or a truth value", value)


@dataclass(frozen=True)
class WarpSettings:
    """How synthetic warps are drawn: one image, seen through two random maps, is a pair whose displacement is known.

    Parameters
    ----------
    rotation_rad, scale, shift
        Standard deviations of the affine part of either map: rotation about each axis, logarithm of the size along
        each, shift as a part of each side.
    warp_vox
        Largest standard deviation, voxels, of the control points of the cubic B-spline in the map of the fixed image;
        each pair draws its own between 0 and this one.
    control_vox
        Distance of the control points.
    still
        Share of the steps, the first ones, whose pairs do not move: contrast and noise are learnt to be ignored first.

    References
    ----------
    Young et al., SuperWarp: supervised learning and warping on U-Net for invariant subvoxel-precise registration,
    WBIR 2022.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rotation_rad: float = 0.1
    scale: float = 0.05
    shift: float = 0.02
    warp_vox: float = 4.0
    control_vox: float = 10.0
    still: float = 0.05

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            require(finite(value) and value >= 0, f"warps.{key}", "finite and not negative", value)
        require(self.control_vox >= 1, "warps.control_vox", "at least 1", self.control_vox)
        require(self.still < 1, "warps.still", "below 1", self.still)


@dataclass(frozen=True)
class PairAugmentation(Augmentation):
    """Augmentation of images with intensities of 0 to 1: as `Augmentation`, with defaults of their own."""

    rotation_rad: float = 0.05
    scale: float = 0.05
    shift: float = 0.02
    warp_vox: float = 1.0
    control_vox: float = 8.0
    noise: float = 0.03
    gain: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """A method of learned registration: network, pairs, losses and optimisation.

    The loss of a pair is the weighted sum of its terms, that of a step the mean over its pairs.

    Parameters
    ----------
    name
        Of the recipe, the stem of its file.
    method
        One sentence: what it is, and the reference.
    steps
        Steps of the optimiser, if early stopping does not end training before.
    network, network_settings
        Name of a registration network, and what it is built with.
    alignment
        How images are laid on one another before the network sees them: "none" (their grids are one already),
        "centre" (centre on centre) or "affine" (each through an affine transform to one reference).
    supervision
        "images": the similarity of images alone. "labels": that, and the agreement of labels on pairs that both have
        them. "warps": the known displacement of synthetic pairs alone; every pair is one image, and no label is read.
    pairs
        "inter": two subjects. "within": two cases of one subject. Of no concern to synthetic warps.
    similarity
        Of `SIMILARITIES`, between fixed and moved image where both have data.
    regularisers
        Of `REGULARISERS`: on the velocity where the network has one, else on the displacement. Penalties on folds and
        volume are always on the displacement. Lengths are voxels, axes of coarser voxels are longer.
    affine_regularisers
        Of `AFFINE_REGULARISERS`, on the network's affine map, or on that of each level.
    consistency
        Of `CONSISTENCY`. If there is one, every pair is registered in both directions, and both count.
    labels
        Of `LABEL_LOSSES`, for supervision "labels": labels of the moving image, warped as probabilities, against those
        of the fixed one.
    labelled_share
        Share of the pairs that are drawn among labelled cases, for supervision "labels"; of the others, those that
        happen to have labels on both sides are compared by them too.
    warps
        How synthetic pairs are drawn, for supervision "warps".
    level_weight
        Weight of each level of a pyramid, or stage of a cascade, which is compared on its own grid; 0 leaves the
        levels alone.
    augmentation
        One image of each pair, drawn anew, is warped; the intensities of both change. Of synthetic pairs the
        intensities alone.
    batch
        Pairs in a step, 2 or more (one alone is slow on a CPU).
    learning_rate, warm_up, decay
        Of AdamW: the rate rises over `warm_up` steps, then falls to nothing along half a "cosine", or is "constant".
    weight_decay
        Of AdamW.
    clip
        Largest norm of the gradient.
    average
        So much of the running average of the weights is kept at each step; the average is then what is judged and
        kept. 0: the weights themselves.
    held_out
        Share of the cases, whole subjects, that only judge. With supervision "labels" and few labelled cases those
        are all trained on.
    check_every
        Steps between judgements.
    patience
        Training stops after so many judgements without a new best. The best weights are kept.
    seed
        Of everything drawn in training. The weights the network starts from are its own.

    Raises
    ------
    ValueError
        If a value is out of range; names key, value and rule.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    method: str
    network: str
    steps: int
    network_settings: Mapping[str, Any] = field(default_factory=dict)
    alignment: Alignment = "centre"
    supervision: Supervision = "images"
    pairs: PairKind = "inter"
    similarity: Term = field(default_factory=lambda: Term("lncc", 1.0, {"radius": 2}))
    regularisers: tuple[Term, ...] = field(default_factory=lambda: (Term("diffusion"),))
    affine_regularisers: tuple[Term, ...] = ()
    consistency: tuple[Term, ...] = ()
    labels: Term = field(default_factory=lambda: Term("soft_dice"))
    labelled_share: float = 0.5
    warps: WarpSettings = field(default_factory=WarpSettings)
    level_weight: float = 0.0
    augmentation: PairAugmentation = field(default_factory=PairAugmentation)
    batch: int = 4
    learning_rate: float = 1e-3
    warm_up: int = 50
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.0
    held_out: float = 0.1
    check_every: int = 200
    patience: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("name", "method", "network"):
            require(bool(getattr(self, key).strip()), key, "a text that is not empty", getattr(self, key))
        for key, kind in _CHOICES.items():
            known = get_args(kind)
            require(getattr(self, key) in known, key, f"one of {', '.join(known)}", getattr(self, key))
        for key, least in _LEAST.items():
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= least, key, f"a whole number, {least} or more", value)
        for key in ("learning_rate", "clip"):
            value = getattr(self, key)
            require(finite(value) and value > 0, key, "finite and positive", value)
        for key in ("weight_decay", "level_weight"):
            value = getattr(self, key)
            require(finite(value) and value >= 0, key, "finite and not negative", value)
        require(0 <= self.labelled_share <= 1, "labelled_share", "from 0 to 1", self.labelled_share)
        require(0 <= self.average < 1, "average", "at least 0 and below 1", self.average)
        require(0 <= self.held_out <= 0.5, "held_out", "from 0 to 0.5", self.held_out)


_CHOICES: dict[str, Any] = {
    "alignment": Alignment,
    "supervision": Supervision,
    "pairs": PairKind,
    "decay": Literal["cosine", "constant"],
}
_LEAST = {"steps": 1, "batch": 2, "warm_up": 0, "check_every": 1, "patience": 1, "seed": 0}


def finite(value: float) -> bool:
    """Whether it is a number and finite."""
    return isinstance(value, int | float) and math.isfinite(value)
