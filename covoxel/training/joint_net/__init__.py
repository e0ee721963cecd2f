"""Joint training of one network that registers and segments: cross-stitch and its relatives, as recipes."""

from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.joint_net.refinement import RefinedStructures, refine_structures
from covoxel.training.joint_net.score import score_pairs
from covoxel.training.joint_net.trainer import TrainedJointNet, train_joint_net

__all__ = [
    "JointNetRecipe",
    "RefinedStructures",
    "TrainedJointNet",
    "refine_structures",
    "score_pairs",
    "train_joint_net",
]
