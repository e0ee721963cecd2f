"""Score of a joint network: Dice of what it says of labelled cases, with labelled moving cases beside them."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from covoxel.training.joint.alarm import dice_of, scores_of
from covoxel.training.joint.material import one_hot
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.objective import with_background
from covoxel.training.registration.recipe import PairKind


@torch.no_grad()
def score_pairs(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    moving_cases: Sequence[TrainingCase],
    values: int,
    *,
    pairs: PairKind = "inter",
    device: str = "cpu",
) -> pd.DataFrame:
    """Dice of a joint network on the labelled ones of `cases`: one row a case, one column a label.

    What is scored is the mean of the probabilities that the network says with each moving case and its labels. A case
    is never its own moving case. Not a number where the labels of a case have none of a label.

    Parameters
    ----------
    network
        See `nets.joint.JointNet`; left in evaluation mode, on the device.
    cases
        Labelled ones count, and of their voxels those in the mask.
    moving_cases
        Labelled ones count.
    values
        Number of labels, background included.
    pairs
        "inter": moving cases of other subjects; "within": of the same.

    Raises
    ------
    ValueError
        If there is no moving case for a case.
    """
    network.to(device).eval()
    rows: dict[str, dict[int, float]] = {}
    for case in cases:
        if case.labels is not None:
            beside = [other for other in moving_cases if _may_move(other, case, pairs)]
            if not beside:
                whom = "the same subject" if pairs == "within" else "another subject"
                raise ValueError(f"case {case.id}: a labelled moving case of {whom} is needed to score it, got none")
            said = torch.stack([_said(network, case, other, values, device) for other in beside]).mean(0)
            rows[case.id] = dice_of(said.argmax(0).cpu(), case, values)
    return scores_of(rows, values)


def _may_move(moving: TrainingCase, fixed: TrainingCase, pairs: PairKind) -> bool:
    same = moving.person == fixed.person
    return moving.labels is not None and moving.id != fixed.id and same == (pairs == "within")


def _said(network: nn.Module, fixed: TrainingCase, moving: TrainingCase, values: int, device: str) -> Tensor:
    """Probabilities of the fixed image, `(values, *shape)`."""
    assert moving.labels is not None
    images = (case.image[None, None].float().to(device) for case in (fixed, moving))
    labels = with_background(one_hot(moving.labels.to(device), values)[None])
    logits: Tensor = network(*images, labels).fixed_logits
    return logits[0].float().softmax(0)
