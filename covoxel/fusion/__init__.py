"""Label fusion: from atlases warped onto one image to a label map and its confidence, one rule a file."""

from covoxel.fusion.base import FUSION_RULES, Evidence, Fused, FusionRule, fuse
from covoxel.fusion.gather import gather_evidence

__all__ = ["FUSION_RULES", "Evidence", "Fused", "FusionRule", "fuse", "gather_evidence"]
