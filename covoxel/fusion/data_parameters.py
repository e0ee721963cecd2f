"""Consensus by data parameters: a vote in which every atlas counts by one number learnt for it."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from covoxel.fusion.base import FUSION_RULES, Evidence, weighted_vote
from covoxel.fusion.source import source_of
from covoxel.fusion.survey import votes_of

Weighting = Literal["softmax", "sigmoid", "fixed"]
WEIGHTINGS: tuple[Weighting, ...] = ("softmax", "sigmoid", "fixed")


@FUSION_RULES.register("data_parameters")
def data_parameters(
    evidence: Evidence, *, parameters: Sequence[float] | None = None, weighting: Weighting = "softmax"
) -> Tensor:
    """Vote with one weight an atlas, a function of its learnt parameter DP.

    `softmax`: `w = softmax(DP)` over the atlases, equation 5 with the parameters as learnt.
    `sigmoid`: `w ∝ sigmoid(DP)`, the confidence of equation 1.
    `fixed`: `w ∝ sigmoid(DP) / (log(n + e) + e)`, the fixed weighting of equation 4, n the voxels of the atlas' warped
    label map that are not background.

    The paper's labels are binary and win above 0.5. Here the weights multiply the votes for each label and the largest
    sum wins, which for two labels is the same, a tie at 0.5 being background in both. The weights of the atlases that
    see a voxel are made to sum to one there, so that one outside its field of view takes nothing from the others.

    Parameters
    ----------
    evidence
        The warped atlases.
    parameters
        Raw parameter, before any sigmoid, of each atlas in the order of `evidence`. None: all equal.
    weighting
        "softmax", "sigmoid" or "fixed".

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities.

    Raises
    ------
    ValueError
        If there is not one finite parameter for each atlas, or the weighting is unknown.

    References
    ----------
    Weihsbach et al., DeepSTAPLE: Learning to predict multimodal registration quality for unsupervised domain
    adaptation, WBIR 2022.
    """
    logits = log_weights(evidence, parameters, weighting).float()
    logits = logits.view(-1, *[1] * evidence.fixed.ndim).expand_as(evidence.valid)
    # A softmax at each voxel over those who see it: the exponentials of none that is heard alone vanish.
    weights = logits.masked_fill(~evidence.valid, -torch.inf).softmax(0).nan_to_num_(0.0)
    return weighted_vote(evidence, weights.to(evidence.labels.dtype))


def log_weights(evidence: Evidence, parameters: Sequence[float] | None, weighting: Weighting) -> Tensor:
    """Logarithm, `(atlas,)` float64, of the weight of each atlas, the greatest 0.

    Raises
    ------
    ValueError
        As `data_parameters`.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    logits = _checked(parameters, len(evidence.moved)).to(evidence.labels.device)
    if weighting != "softmax":
        logits = logsigmoid(logits)
    if weighting == "fixed":
        logits = logits - ((votes_of(source_of(evidence)).foreground + math.e).log() + math.e).log()
    return logits - logits.amax()


def _checked(parameters: Sequence[float] | None, atlases: int) -> Tensor:
    if parameters is None:
        return torch.zeros(atlases, dtype=torch.float64)
    if len(parameters) != atlases:
        raise ValueError(f"parameters must be as many as atlases, {atlases}, got {len(parameters)}")
    for index, value in enumerate(parameters):
        if not math.isfinite(value):
            raise ValueError(f"parameters must be finite numbers, got {value} for atlas {index}")
    return torch.tensor([float(value) for value in parameters], dtype=torch.float64)
