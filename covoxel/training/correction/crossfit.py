"""Cross-fitting: whether a correction helps cases that it has not seen, asked before it is used on any."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from covoxel.fusion.base import smallest_winner
from covoxel.io.scratch import Scratch
from covoxel.metrics.dice import dice
from covoxel.training.correction.apply import Corrected, TensorParts
from covoxel.training.correction.cases import CorrectionCase, check_cases
from covoxel.training.correction.settings import CorrectionSettings
from covoxel.training.correction.trainer import train_correction
from covoxel.training.progress import Progress
from covoxel.training.registration.machine import Precision

MIN_CASES = 4
"""Fewer labelled cases cannot say whether a correction helps."""

_NUMBERS = 2**24  # probabilities that are looked at at once

FOLDS = 5
"""Parts into which the cases fall, at most: with fewer, a training would lack more cases than it can do without."""


@dataclass(frozen=True, eq=False)
class LearntCorrection:
    """A correction, and what speaks for it.

    Parameters
    ----------
    network
        Trained on all cases; None if it hurts.
    gains
        Dice, mean over structures, that each case gained by a correction which had not seen it, by id.
    gain, error
        Their mean, and its standard error.
    sentence
        Whether it is used, and why.
    curve
        Of the training on all cases; empty if there was none.
    notes
        Of the trainings.
    """

    network: nn.Module | None
    gains: dict[str, float]
    gain: float
    error: float
    sentence: str
    curve: pd.DataFrame
    notes: tuple[str, ...]


def learn_correction(
    build: Callable[[], nn.Module],
    cases: Sequence[CorrectionCase],
    settings: CorrectionSettings | None = None,
    *,
    device: str = "cpu",
    precision: Precision = "32-true",
    checkpoints: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Progress | None = None,
) -> LearntCorrection:
    """Leave out a part of the cases, train a correction on the others, try it; so for each part; then train on all.

    It is used unless the cases speak against it: their mean gain in Dice lies a standard error or more below zero. What
    is used has learnt from more cases than what was tried, and few cases hardly show a gain that there is. Cases of one
    subject are in one part.

    Parameters
    ----------
    build
        Makes the network, the same one at every call.
    cases, settings, device, precision, checkpoint_seconds
        As for `train_correction`.
    checkpoints
        Folder for the states of all trainings. What lies there is gone on from; who calls removes it.
    progress
        Told after every step, of the steps of all trainings.

    Raises
    ------
    ValueError
        As `train_correction`, and if there are fewer than four cases or all are of one subject.
    TrainingDivergedError
        As `train_correction`.
    """
    settings = settings or CorrectionSettings()
    check_cases(cases)
    parts = _parts(cases)
    trainings = len(parts) + 1

    def trained(name: str, number: int, some: Sequence[CorrectionCase]) -> tuple[nn.Module, pd.DataFrame]:
        result = train_correction(
            build(),
            some,
            settings,
            device=device,
            precision=precision,
            checkpoint=None if checkpoints is None else checkpoints / f"{name}.pt",
            checkpoint_seconds=checkpoint_seconds,
            progress=_counting_on(progress, number * settings.steps, trainings * settings.steps),
        )
        notes.extend(note for note in result.notes if note not in notes)
        return result.network, result.curve

    notes: list[str] = []
    gains: dict[str, float] = {}
    for number, judging in enumerate(parts):
        network, _ = trained(f"without_{number + 1}", number, [case for case in cases if case not in judging])
        network.to(device)
        gains |= {case.id: gain_on(network, case, settings, device, checkpoints) for case in judging}
    gain = fmean(gains.values())
    error = stdev(gains.values()) / math.sqrt(len(gains))
    said = f"{gain:+.4f} (standard error {error:.4f})"
    if gain + error <= 0:
        sentence = (
            f"Fusion was not corrected: on {len(gains)} atlases that it had not seen, a correction changed Dice by "
            f"{said}."
        )
        return LearntCorrection(None, gains, gain, error, sentence, pd.DataFrame(), tuple(notes))
    network, curve = trained("all", len(parts), cases)
    chance = ", which may be chance" if gain <= 0 else ""
    sentence = (
        "A network that learnt from the atlases, each labelled by the others, corrected the fused labels; on "
        f"{len(gains)} atlases that it had not seen it changed Dice by {said}{chance}."
    )
    return LearntCorrection(network, gains, gain, error, sentence, curve, tuple(notes))


def gain_on(
    network: nn.Module,
    case: CorrectionCase,
    settings: CorrectionSettings,
    device: str = "cpu",
    scratch: Path | None = None,
) -> float:
    """Dice, mean over structures, of the corrected label map of a case, less that of the fused one.

    `scratch`: folder for what does not stay in memory.
    """
    shape, labels = tuple(case.image.shape), case.probabilities.shape[0]
    fused, mended = (torch.zeros(shape, dtype=torch.int16) for _ in range(2))
    with Scratch(scratch) as kept:
        corrected = Corrected(network, case.image.to(device), TensorParts(case.probabilities), kept, settings)
        rows = max(1, _NUMBERS * shape[0] // (labels * case.image.numel()))
        for start in range(0, shape[0], rows):
            part = (slice(start, min(start + rows, shape[0])), *(slice(0, side) for side in shape[1:]))
            own: Any = (slice(None), *part)
            fused[part] = smallest_winner(case.probabilities[own].to(device).float()).short().cpu()
            mended[part] = smallest_winner(corrected.read(part)).short().cpu()
    return _score(mended, case) - _score(fused, case)


def _score(label_map: Tensor, case: CorrectionCase) -> float:
    scores = dice(label_map, case.labels, torch.arange(case.probabilities.shape[0])).values()
    known = [score for score in scores if isfinite(score)]
    return fmean(known) if known else 0.0


def _parts(cases: Sequence[CorrectionCase]) -> list[list[CorrectionCase]]:
    """The cases in parts of whole persons, as even as can be."""
    people = sorted({case.person for case in cases})
    if len(cases) < MIN_CASES or len(people) < 2:
        raise ValueError(
            f"whether a correction helps needs {MIN_CASES} cases or more of two subjects or more, got {len(cases)} of "
            f"{len(people)}"
        )
    count = min(FOLDS, len(people))
    return [[case for case in cases if people.index(case.person) % count == part] for part in range(count)]


def _counting_on(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _, loss: progress(before + done, total, loss)
