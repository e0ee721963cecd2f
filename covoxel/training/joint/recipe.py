"""Recipe of joint training: what decides what both networks learn, in plain values that a YAML file can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from covoxel.training.joint.complementary_recipe import ComplementarySettings
from covoxel.training.registration.recipe import PairAugmentation, Recipe, Term, finite, require

Through = Literal["one_label", "always", "never"]
Decay = Literal["cosine", "constant"]


@dataclass(frozen=True)
class SegmentationAugmentation(PairAugmentation):
    """Augmentation of single labelled images: stronger than that of pairs, since there are few."""

    rotation_rad: float = 0.15
    scale: float = 0.1
    shift: float = 0.03
    warp_vox: float = 2.0
    control_vox: float = 8.0
    noise: float = 0.05
    gain: float = 0.1


@dataclass(frozen=True)
class SegmentationRecipe:
    """How the segmentation network is trained.

    Parameters
    ----------
    network, network_settings
        Name of a segmentation network, and what it is built with.
    supervised
        Of `LABEL_LOSSES`, summed: segmentation against the labels of the same image.
    anatomy
        Of `LABEL_LOSSES`: segmentation against labels that the registration network carried over.
    augmentation
        Of single images, all of which are warped. Pairs are augmented as in the registration's recipe, so that the
        registration network sees what it knows.
    batch
        Images or pairs in a step.
    learning_rate, warm_up, decay, weight_decay, clip, average
        As for `Recipe`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    network: str = "unet"
    network_settings: Mapping[str, Any] = field(default_factory=dict)
    supervised: tuple[Term, ...] = field(default_factory=lambda: (Term("soft_dice"), Term("cross_entropy")))
    anatomy: Term = field(default_factory=lambda: Term("soft_dice"))
    augmentation: SegmentationAugmentation = field(default_factory=SegmentationAugmentation)
    batch: int = 2
    learning_rate: float = 2e-3
    warm_up: int = 50
    decay: Decay = "cosine"
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.0

    def __post_init__(self) -> None:
        require(bool(self.network.strip()), "segmentation.network", "a text that is not empty", self.network)
        weight = sum(term.weight for term in self.supervised)
        require(weight > 0, "segmentation.supervised", "a loss or more with a weight", self.supervised)
        require(self.decay in get_args(Decay), "segmentation.decay", f"one of {get_args(Decay)}", self.decay)
        for key, least in (("batch", 1), ("warm_up", 0)):
            _check_whole(f"segmentation.{key}", getattr(self, key), least)
        for key in ("learning_rate", "clip"):
            value = getattr(self, key)
            require(finite(value) and value > 0, f"segmentation.{key}", "finite and positive", value)
        _check_weight("segmentation.weight_decay", self.weight_decay)
        require(0 <= self.average < 1, "segmentation.average", "at least 0 and below 1", self.average)


@dataclass(frozen=True)
class JointRecipe:
    """A method of joint training: both networks are trained alone, then in turns, each on what the other says.

    Parameters
    ----------
    name, method
        Name, and one sentence: what it is, and the reference.
    registration
        How the registration network is trained alone. In the joint phase its losses, batch and optimiser are the
        same; its images are compared whatever its supervision, and its `labels` compare true labels where there are,
        else what the segmentation network says.
    segmentation
        How the segmentation network is trained.
    registration_steps
        Steps of the registration network alone: 0 takes it as it is, None takes the steps of its recipe.
    segmentation_steps
        Steps of the segmentation network alone; 0 takes it as it is.
    joint_steps
        Steps of the joint phase, of whichever network; 0 leaves both as they were trained alone.
    ratio
        Steps of the registration network for one of the segmentation network, in the joint phase.
    joint_rate
        Learning rates of the joint phase, as a part of those of the networks alone.
    anatomy_weight
        Weight of the segmentation's agreement with labels that were carried over. Of the registration network's, the
        weight is that of `labels` in its recipe.
    supervised_weight
        Weight of the segmentation's agreement with the true labels of the same image.
    fused_weight
        The same for fused labels, where cases have some in place of true ones.
    through_registration
        When the segmentation network learns from unlabelled images, through the frozen registration network, from its
        first step on: if there is but "one_label", "always" or "never".
    predicted_pairs
        Whether registration compares what the segmentation network says of pairs without a true label, in which case
        nothing of them is true.
    complementary
        What DeepRS adds; None: nothing.
    patch
        Sides, voxels, of the patches that the segmentation network and the joint phase learn from, for images too big
        otherwise; half of them hold a structure. Both images of a pair are cut at the same place. None: whole images.
    labelled_share, half_labelled_share
        Shares of the registration network's pairs in the joint phase that have two true labels, and just one; the
        others are any pairs. A kind that does not exist leaves its share to the next.
    held_out
        Labelled cases that teach no label, and judge; the best weights are then kept in place of the last. Their
        images are used without their labels.
    check_every
        Steps between judgements.
    seed
        Of everything drawn after the registration network was trained alone, which has a seed in its recipe.

    Raises
    ------
    ValueError
        If a value is out of range; names key, value and rule.

    References
    ----------
    Xu and Niethammer, DeepAtlas: joint semi-supervised learning of image registration and segmentation, MICCAI 2019.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    method: str
    registration: Recipe
    segmentation: SegmentationRecipe = field(default_factory=SegmentationRecipe)
    registration_steps: int | None = None
    segmentation_steps: int = 1000
    joint_steps: int = 2100
    ratio: float = 20.0
    joint_rate: float = 0.5
    anatomy_weight: float = 1.0
    supervised_weight: float = 1.0
    fused_weight: float = 1.0
    through_registration: Through = "one_label"
    predicted_pairs: bool = True
    complementary: ComplementarySettings | None = None
    patch: tuple[int, ...] | None = None
    labelled_share: float = 0.25
    half_labelled_share: float = 0.25
    held_out: int = 0
    check_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("name", "method"):
            require(bool(getattr(self, key).strip()), key, "a text that is not empty", getattr(self, key))
        known = get_args(Through)
        require(
            self.through_registration in known,
            "through_registration",
            f"one of {', '.join(known)}",
            self.through_registration,
        )
        for key, least in _LEAST.items():
            _check_whole(key, getattr(self, key), least)
        for key in ("ratio", "anatomy_weight", "fused_weight"):
            _check_weight(key, getattr(self, key))
        for key in ("joint_rate", "supervised_weight"):
            value = getattr(self, key)
            require(finite(value) and value > 0, key, "finite and positive", value)
        for key in ("labelled_share", "half_labelled_share"):
            require(0 <= getattr(self, key) <= 1, key, "from 0 to 1", getattr(self, key))
        both = self.labelled_share + self.half_labelled_share
        require(both <= 1, "labelled_share + half_labelled_share", "at most 1", both)
        if self.patch is not None:
            fits = len(self.patch) in (2, 3) and all(_is_whole(side) and side >= 1 for side in self.patch)
            require(fits, "patch", "2 or 3 whole numbers, 1 or more", self.patch)
        learns = self.ratio > 0 or not self.joint_steps
        require(learns or not self.has_discriminator, "ratio", "positive where a discriminator is to learn", self.ratio)

    @property
    def steps_alone(self) -> int:
        """Steps of the registration network alone."""
        return self.registration.steps if self.registration_steps is None else self.registration_steps

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained beside both networks."""
        return self.complementary is not None and self.complementary.has_discriminator

    @property
    def carries(self) -> bool:
        """Whether the segmentation network learns from what the registration network carries over."""
        more = self.complementary is not None and self.complementary.teaches_segmentation
        return self.anatomy_weight > 0 or more


_LEAST = {"steps_alone": 0, "segmentation_steps": 0, "joint_steps": 0, "held_out": 0, "check_every": 1, "seed": 0}


def _check_whole(key: str, value: object, least: int) -> None:
    require(_is_whole(value) and value >= least, key, f"a whole number, {least} or more", value)  # type: ignore[operator]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_weight(key: str, value: float) -> None:
    require(finite(value) and value >= 0, key, "finite and not negative", value)
