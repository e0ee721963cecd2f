"""Majority vote: every atlas has one vote at every voxel it sees."""

from typing import Literal

import torch

from covoxel.fusion.base import FUSION_RULES, Evidence, weighted_vote


@FUSION_RULES.register("majority")
def majority(evidence: Evidence, *, votes: Literal["soft", "hard"] = "soft") -> torch.Tensor:
    """Share of the atlases that see a voxel and vote for each label.

    Parameters
    ----------
    evidence
        The warped atlases.
    votes
        "soft": an atlas divides its vote as its interpolated labels do; "hard": its whole vote goes to its largest
        label (several that tie share it).

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities.

    References
    ----------
    Heckemann et al., Automatic anatomical brain MRI segmentation combining label propagation and decision fusion,
    NeuroImage 2006.
    """
    if votes not in ("soft", "hard"):
        raise ValueError(f"votes must be 'soft' or 'hard', got {votes!r}")
    if votes == "hard":
        labels = evidence.labels
        top = (labels >= labels.amax(1, keepdim=True)).to(labels.dtype)
        evidence = Evidence(
            evidence.fixed, evidence.moved, top / top.sum(1, keepdim=True), evidence.values, evidence.valid
        )
    return weighted_vote(evidence, evidence.valid.to(evidence.labels.dtype))
