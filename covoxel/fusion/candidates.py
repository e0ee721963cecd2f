"""Candidates for one case: the result of every rule, and their consensus, from which one is chosen."""

from collections.abc import Mapping
from typing import Any

import torch

from covoxel.fusion.base import Evidence, Fused, fuse, fused_of

CONSENSUS = "consensus"
"""Name of the mean of the probabilities of the rules of `CONSENSUS_OF`."""

CONSENSUS_OF = ("joint_label_fusion", "locally_weighted")
"""Rules that compare atlases and image voxel by voxel: good ones, and their errors differ."""

VOTE = "majority"
"""The rule that every other one must be measured against."""


def candidates(
    evidence: Evidence, rules: Mapping[str, Mapping[str, Any]], *, consensus: bool = True
) -> dict[str, Fused]:
    """Results by name.

    Parameters
    ----------
    evidence
        The warped atlases.
    rules
        Settings by name of rule.
    consensus
        Whether the consensus is a candidate too, where all rules of `CONSENSUS_OF` are among `rules`.

    Returns
    -------
    dict
        In the order of `rules`, the consensus last.

    Raises
    ------
    ValueError
        If there is no rule.
    """
    if not rules:
        raise ValueError("rules must name at least one fusion rule, got none")
    results = {rule: fuse(rule, evidence, **settings) for rule, settings in rules.items()}
    if consensus and set(CONSENSUS_OF) <= set(results):
        results[CONSENSUS] = consensus_of(evidence, {rule: results[rule] for rule in CONSENSUS_OF})
    return results


def consensus_of(evidence: Evidence, results: Mapping[str, Fused]) -> Fused:
    """The mean of the probabilities of several results on the same evidence, with ties and views as in `fuse`."""
    probabilities = torch.stack([fused.probabilities for fused in results.values()]).mean(0)
    return fused_of(probabilities, evidence.values, evidence.valid.any(0).to(probabilities.device))
