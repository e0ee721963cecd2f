"""What DeepRS adds to joint training, in plain values that a YAML file can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from covoxel.training.registration.recipe import Term, finite, require

Decay = Literal["cosine", "constant"]


@dataclass(frozen=True)
class DiscriminatorRecipe:
    """How the discriminator is trained, in the joint phase.

    Parameters
    ----------
    network_settings
        What it is built with; see `nets.joint.discriminator.PatchDiscriminator`.
    mixed_share
        The `β` of the pairs that it is taught are aligned: `β moving + (1 - β) fixed` beside the fixed image. The
        smaller, the stricter.
    ratio
        Its steps for one of the registration network.
    batch
        Pairs in a step.
    learning_rate, warm_up, decay, weight_decay, clip, average
        As for `covoxel.training.registration.recipe.Recipe`; the rate is not lowered by `joint_rate`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    network_settings: Mapping[str, Any] = field(default_factory=dict)
    mixed_share: float = 0.2
    ratio: float = 0.5
    batch: int = 2
    learning_rate: float = 5e-4
    warm_up: int = 20
    decay: Decay = "constant"
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.0

    def __post_init__(self) -> None:
        place = "complementary.discriminator"
        require(self.decay in get_args(Decay), f"{place}.decay", f"one of {get_args(Decay)}", self.decay)
        for key, least in (("batch", 1), ("warm_up", 0)):
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= least, f"{place}.{key}", f"a whole number, {least} or more", value)
        for key in ("learning_rate", "clip", "ratio"):
            value = getattr(self, key)
            require(finite(value) and value > 0, f"{place}.{key}", "finite and positive", value)
        _check_weight(f"{place}.weight_decay", self.weight_decay)
        require(0 <= self.average < 1, f"{place}.average", "at least 0 and below 1", self.average)
        require(0 <= self.mixed_share < 1, f"{place}.mixed_share", "at least 0 and below 1", self.mixed_share)


@dataclass(frozen=True)
class ComplementarySettings:
    r"""Three ideas of DeepRS; each is off unless it is given.

    Parameters
    ----------
    sampling
        Least and largest `α`: the labelled moving image of a pair teaches the segmentation network after it was moved
        by :math:`\alpha u`, `u` the displacement of the registration network and `α` drawn for each pair, so that what
        it sees stays diverse. None: it teaches as it is.
    confidence_weight
        Weight of the agreement of the unlabelled fixed image's segmentation with the moved labels, each voxel weighted
        by how well the discriminator holds it to be aligned.
    confidence
        Of `LABEL_LOSSES`: that agreement.
    adversarial_weight
        Weight of what the registration network pays for pairs that the discriminator tells from aligned ones.
    region_weight
        Weight of the squared difference between the segmentations of the moved and of the fixed image, which the
        registration network pays; no label is needed. The formula of the reference is printed with a minus, though it
        is called a mean squared error and can but be made small.
    discriminator
        How it is trained; there is one if one of its weights is not 0.

    Raises
    ------
    ValueError
        If a value is out of range, or nothing is wanted.

    References
    ----------
    He et al., Deep complementary joint model for complex scene registration and few-shot segmentation on medical
    images, ECCV 2020. Different here: labels that are truth for the fixed image are carried all the way, not by `α u`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sampling: tuple[float, float] | None = None
    confidence_weight: float = 0.0
    confidence: Term = field(default_factory=lambda: Term("cross_entropy"))
    adversarial_weight: float = 0.0
    region_weight: float = 0.0
    discriminator: DiscriminatorRecipe = field(default_factory=DiscriminatorRecipe)

    def __post_init__(self) -> None:
        if self.sampling is not None:
            fits = len(self.sampling) == 2 and all(map(finite, self.sampling))
            fits = fits and 0 <= self.sampling[0] <= self.sampling[1] <= 1
            require(fits, "complementary.sampling", "two numbers from 0 to 1, the smaller first", self.sampling)
        weights = ("confidence_weight", "adversarial_weight", "region_weight")
        for key in weights:
            _check_weight(f"complementary.{key}", getattr(self, key))
        wanted = self.sampling is not None or any(getattr(self, key) for key in weights)
        require(wanted, "complementary", f"null, or have sampling or one of {', '.join(weights)}", self)

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained."""
        return self.confidence_weight > 0 or self.adversarial_weight > 0

    @property
    def teaches_segmentation(self) -> bool:
        """Whether the segmentation network learns from pairs by it."""
        return self.sampling is not None or self.confidence_weight > 0


def _check_weight(key: str, value: float) -> None:
    require(finite(value) and value >= 0, key, "finite and not negative", value)
