"""Joint training of a registration and a segmentation network, each on what the other one says."""

from covoxel.training.joint.alarm import Verdict, compare, folds, score, score_against_fused
from covoxel.training.joint.complementary_recipe import ComplementarySettings, DiscriminatorRecipe
from covoxel.training.joint.material import FusedLabels, held_out
from covoxel.training.joint.recipe import JointRecipe, SegmentationAugmentation, SegmentationRecipe
from covoxel.training.joint.trainer import TrainedJoint, train_joint

__all__ = [
    "ComplementarySettings",
    "DiscriminatorRecipe",
    "FusedLabels",
    "JointRecipe",
    "SegmentationAugmentation",
    "SegmentationRecipe",
    "TrainedJoint",
    "Verdict",
    "compare",
    "folds",
    "held_out",
    "score",
    "score_against_fused",
    "train_joint",
]
