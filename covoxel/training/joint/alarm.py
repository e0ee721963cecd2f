"""Alarm: labels that joint training segments worse than separate training, paired case by case.

Labels that taught nobody see small harm. Where there are too few to hold any out, fused labels of the other cases take
their place: they see catastrophes and nothing less.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from covoxel.metrics import dice
from covoxel.training.joint.material import FusedLabels
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.seeds import generator

TOLERANCE = 0.01
"""A mean loss of Dice above it is negative transfer, whatever its interval."""
CATASTROPHE = 0.05
"""The same of agreement with fused labels, from which a good network may differ a little more than a poor one."""
CONFIDENCE = 0.95
"""Of the intervals."""
CONFIDENT = 0.7
"""Fused labels are compared where they are trusted as much as that."""

Use = Literal["joint", "separate"]
Truth = Literal["held-out", "fused"]


@dataclass(frozen=True)
class Verdict:
    """Which network to use for a label.

    Parameters
    ----------
    label
        Its place in the list of labels.
    use
        Which network's segmentation of it.
    cases
        Cases that were compared.
    difference, low, high
        Mean of joint minus separate Dice, and its interval; not numbers where there are too few cases.
    sentence
        The same in words.
    """

    label: int
    use: Use
    cases: int
    difference: float
    low: float
    high: float
    sentence: str

    @property
    def alarming(self) -> bool:
        """Whether joint training hurts the label."""
        return self.use == "separate"


def compare(
    joint: pd.DataFrame,
    separate: pd.DataFrame,
    *,
    names: Mapping[int, str] | None = None,
    tolerance: float | None = None,
    truth: Truth = "held-out",
) -> tuple[Verdict, ...]:
    """Compare two trainings label by label, each case with itself.

    A label falls back to the separate network if joint training loses more than `tolerance` of Dice in the mean, or
    less than that but surely (the interval is below zero). Cases count that have a number in both tables. Scores of
    leave-one-out trainings go in the same tables.

    Fused labels err, and a network that has learnt better than they are agrees less with them: a small loss is no
    harm there, however sure, and only one above `tolerance` falls back.

    Parameters
    ----------
    joint, separate
        Dice of the same cases and labels: one row a case, one column a label, as of `score` or `score_against_fused`.
    names
        Names of the labels; by default their places.
    tolerance
        Mean loss of Dice that is taken as chance; by default `TOLERANCE`, of fused labels `CATASTROPHE`.
    truth
        Whether the Dice is with labels that were "held-out" or with "fused" ones.

    Returns
    -------
    tuple of Verdict
        One a label, in the order of the columns.

    Raises
    ------
    ValueError
        If cases or labels differ.
    """
    if set(joint.index) != set(separate.index) or set(joint.columns) != set(separate.columns):
        raise ValueError(
            f"joint and separate must be of the same cases and labels, got {joint.shape} and {separate.shape} with "
            f"{len(set(joint.index) ^ set(separate.index))} cases and "
            f"{len(set(joint.columns) ^ set(separate.columns))} labels in one of them only"
        )
    if tolerance is None:
        tolerance = CATASTROPHE if truth == "fused" else TOLERANCE
    separate = separate.loc[joint.index, joint.columns]
    verdicts = []
    for label in joint.columns:
        differences = (joint[label] - separate[label]).dropna().to_numpy(dtype=np.float64)
        name = (names or {}).get(int(label), f"label {label}")
        verdicts.append(_verdict(int(label), name, differences, tolerance, truth))
    return tuple(verdicts)


def _verdict(label: int, name: str, differences: np.ndarray, tolerance: float, truth: Truth) -> Verdict:
    n, fused = len(differences), truth == "fused"
    if not n:
        nobody = "no fused label is sure of it" if fused else "no held-out case has it"
        sentence = f"{name}: {nobody}, joint training was not checked and is used"
        return Verdict(label, "joint", 0, math.nan, math.nan, math.nan, sentence)
    difference, (low, high) = float(differences.mean()), interval(differences)
    hurts = difference < -tolerance or (high < 0 and not fused)
    use: Use = "separate" if hurts else "joint"
    what = "agreement with fused labels" if fused else "Dice"
    within = "" if math.isnan(low) else f" ({CONFIDENCE:.0%} interval {low:+.3f} to {high:+.3f})"
    cases = f"{n} {'' if fused else 'held-out '}{'case' if n == 1 else 'cases'}"
    consequence = "joint training hurts, the separate network is used" if hurts else "the joint network is used"
    sentence = f"{name}: joint minus separate {what} {difference:+.3f}{within} on {cases}: {consequence}"
    return Verdict(label, use, n, difference, low, high, sentence)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Student's interval of the mean of paired differences, `(case,)`; not numbers for one case."""
    n = len(differences)
    if n < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(differences.std(ddof=1)) / math.sqrt(n)
    mean = float(differences.mean())
    return mean - half, mean + half


@torch.no_grad()
def score(network: nn.Module, cases: Sequence[TrainingCase], values: int, *, device: str = "cpu") -> pd.DataFrame:
    """Dice of a segmentation network on the labelled ones of `cases`: one row a case, one column a label.

    Not a number where the labels of a case have none of a label: nothing may be known of it there.

    Parameters
    ----------
    network
        From `(1, 1, *shape)` to logits `(1, values, *shape)`; left in evaluation mode, on the device.
    cases
        Labelled ones count, and of their voxels those in the mask.
    values
        Number of labels, background included.
    """
    network.to(device).eval()
    rows: dict[str, dict[int, float]] = {}
    for case in cases:
        if case.labels is not None:
            said = network(case.image[None, None].float().to(device))[0].argmax(0).cpu()
            rows[case.id] = dice_of(said, case, values)
    return scores_of(rows, values)


@torch.no_grad()
def score_against_fused(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    fused: Mapping[str, FusedLabels],
    values: int,
    *,
    confident: float = CONFIDENT,
    device: str = "cpu",
) -> pd.DataFrame:
    """Dice of a segmentation network with fused labels where they are sure: one row a case, one column a label.

    For `compare` with truth "fused", where no atlas can be spared to judge. What it sees is a network that went astray.
    Small harm it does not see: fused labels have errors of their own, perhaps taught both networks, and the borders of
    structures, where the harm would be, are where they are not sure.

    Not a number where the sure labels of a case have none of a label.

    Parameters
    ----------
    network, cases, values, device
        As for `score`; cases count that have fused labels.
    fused
        By id of the case.
    confident
        Least confidence of the voxels that are compared; all are, where fused labels have none.
    """
    network.to(device).eval()
    rows: dict[str, dict[int, float]] = {}
    for case in cases:
        if case.id in fused:
            labels = fused[case.id]
            labels.check(case, values)
            sure = case.mask if labels.confidence is None else case.mask & (labels.confidence.cpu() >= confident)
            rows[case.id] = dict.fromkeys(range(1, values), math.nan)
            if sure.any():
                said = network(case.image[None, None].float().to(device))[0].argmax(0).cpu()
                rows[case.id] = dice_of(said, replace(case, mask=sure, labels=labels.places.cpu()), values)
    return scores_of(rows, values)


def dice_of(label_map: Tensor, case: TrainingCase, values: int) -> dict[int, float]:
    """Dice of `label_map` `(*shape)`, on the CPU, with each label of a labelled case, as of `score`."""
    assert case.labels is not None
    truth = case.labels.cpu()[case.mask]
    present = set(torch.unique(truth).tolist())
    scores = dice(label_map[case.mask], truth, range(1, values))
    return {label: number if label in present else math.nan for label, number in scores.items()}


def scores_of(rows: Mapping[str, Mapping[int, float]], values: int) -> pd.DataFrame:
    """Dice by case and label as a table, as of `score`."""
    return pd.DataFrame.from_dict(dict(rows), orient="index", columns=list(range(1, values)))


def folds(cases: Sequence[TrainingCase], count: int, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """Names of the labelled cases to hold out in each of `count` trainings; whole subjects, each once.

    As many as there are labelled subjects is leave-one-out.

    Raises
    ------
    ValueError
        If `count` is not from 2 to the number of labelled subjects.
    """
    people: dict[str, list[str]] = {}
    for case in cases:
        if case.labels is not None:
            people.setdefault(case.person, []).append(case.id)
    if not 2 <= count <= len(people):
        raise ValueError(f"count must be from 2 to the labelled subjects, {len(people)}, got {count}")
    names = list(people.values())
    order = torch.randperm(len(names), generator=generator(seed, "folds")).tolist()
    for first in range(count):
        yield tuple(sorted(name for index in order[first::count] for name in names[index]))
