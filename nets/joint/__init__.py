"""Joint networks, one architecture a file: one network registers and segments; `JOINT_NETS` has them by name."""

from nets.joint.base import JOINT_NETS, Joint, JointNet

__all__ = ["JOINT_NETS", "Joint", "JointNet"]
