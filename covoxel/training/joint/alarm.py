"""Alarm: labels that joint training segments worse than separate training, paired case by case on held-out labels."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from covoxel.metrics import dice
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.seeds import generator

TOLERANCE = 0.01
"""A mean loss of Dice above it is negative transfer, whatever its interval."""
CONFIDENCE = 0.95
"""Of the intervals."""

Use = Literal["joint", "separate"]


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
    tolerance: float = TOLERANCE,
) -> tuple[Verdict, ...]:
    """Compare two trainings label by label, each case with itself.

    A label falls back to the separate network if joint training loses more than `tolerance` of Dice in the mean, or
    less than that but surely (the interval is below zero). Cases count that have a number in both tables. Scores of
    leave-one-out trainings go in the same tables.

    Parameters
    ----------
    joint, separate
        Dice of the same cases and labels: one row a case, one column a label, as of `score`.
    names
        Names of the labels; by default their places.
    tolerance
        Mean loss of Dice that is taken as chance.

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
    separate = separate.loc[joint.index, joint.columns]
    verdicts = []
    for label in joint.columns:
        differences = (joint[label] - separate[label]).dropna().to_numpy(dtype=np.float64)
        name = (names or {}).get(int(label), f"label {label}")
        verdicts.append(_verdict(int(label), name, differences, tolerance))
    return tuple(verdicts)


def _verdict(label: int, name: str, differences: np.ndarray, tolerance: float) -> Verdict:
    n = len(differences)
    if not n:
        sentence = f"{name}: no held-out case has it, joint training was not checked and is used"
        return Verdict(label, "joint", 0, math.nan, math.nan, math.nan, sentence)
    difference, (low, high) = float(differences.mean()), interval(differences)
    hurts = difference < -tolerance or high < 0
    use: Use = "separate" if hurts else "joint"
    within = "" if math.isnan(low) else f" ({CONFIDENCE:.0%} interval {low:+.3f} to {high:+.3f})"
    consequence = "joint training hurts, the separate network is used" if hurts else "the joint network is used"
    cases = "case" if n == 1 else "cases"
    sentence = f"{name}: joint minus separate Dice {difference:+.3f}{within} on {n} held-out {cases}: {consequence}"
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
