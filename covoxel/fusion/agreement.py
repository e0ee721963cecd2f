"""Where atlases disagree: the only voxels at which a rule has anything to decide."""

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence

AGREEMENT_TOLERANCE = 1e-6


def disagreement(evidence: Evidence) -> Tensor:
    """Mask, `(*shape)`, of the voxels at which two valid atlases differ in any label by more than 1e-6."""
    least = torch.full_like(evidence.labels[0], 2.0)
    most = torch.full_like(evidence.labels[0], -1.0)
    for labels, valid in zip(evidence.labels, evidence.valid, strict=True):
        torch.minimum(least, torch.where(valid, labels, 2.0), out=least)
        torch.maximum(most, torch.where(valid, labels, -1.0), out=most)
    return (most - least > AGREEMENT_TOLERANCE).any(0)
