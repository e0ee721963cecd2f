"""Settings of corrective learning, checked when they are made."""

from dataclasses import dataclass, field

from covoxel.training.joint.recipe import SegmentationAugmentation
from covoxel.training.registration.recipe import finite, require


@dataclass(frozen=True)
class CorrectionSettings:
    """How the network that corrects fused labels is trained, and where it is asked.

    Parameters
    ----------
    steps, batch
        Steps, and cases in each.
    learning_rate, warm_up, decay, weight_decay, clip, average
        As for `covoxel.training.registration.Recipe`.
    cross_entropy
        Weight of the cross-entropy beside the soft Dice loss.
    augmentation
        How an image is changed, with its fused and its true labels.
    margin_vox
        How far around the fused structures the network looks, and its word counts.
    whole_voxels
        A region of at most so many voxels is taken whole; of a larger one
    patch_voxels
        patches of about so many, with sides alike.
    check_every
        Steps between rows of the learning curve.
    seed
        Of everything drawn in training. The weights the network starts from are its own.
    """

    steps: int = 400
    batch: int = 2
    learning_rate: float = 2e-3
    warm_up: int = 40
    decay: str = "cosine"
    weight_decay: float = 1e-2
    clip: float = 1.0
    average: float = 0.0
    cross_entropy: float = 10.0
    augmentation: SegmentationAugmentation = field(default_factory=SegmentationAugmentation)
    margin_vox: int = 8
    whole_voxels: int = 96**3
    patch_voxels: int = 64**3
    check_every: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "warm_up": 0, "margin_vox": 0, "whole_voxels": 1, "patch_voxels": 1}
        for name, lowest in (least | {"check_every": 1}).items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= lowest, name, f"a whole number, {lowest} or more", value)
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            require(finite(value) and value > 0, name, "finite and positive", value)
        for name in ("weight_decay", "cross_entropy"):
            value = getattr(self, name)
            require(finite(value) and value >= 0, name, "finite and not negative", value)
        require(self.decay in ("cosine", "constant"), "decay", "cosine or constant", self.decay)
        require(0 <= self.average < 1, "average", "at least 0 and below 1", self.average)

    def patch_side(self, ndim: int) -> int:
        """Side of a patch, voxels."""
        side: float = self.patch_voxels ** (1 / ndim)
        return max(1, round(side))
