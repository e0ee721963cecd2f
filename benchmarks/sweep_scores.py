"""Scores of a label sweep: of label maps and of transforms, kept on disk so that a killed sweep goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.fusion_evidence import STRUCTURES
from covoxel.fusion.base import smallest_winner
from covoxel.io import read_table, write_table
from covoxel.metrics import dice, digital_folding, folding, hd95_mm
from covoxel.spatial import Image, Transform, resample_probabilities

VALUES = (0, *STRUCTURES)
_NAMES = tuple(STRUCTURES.values())
_PER_STRUCTURE = ("dice", "hd95_mm")


@dataclass(frozen=True)
class CaseScore:
    """How well one case is segmented: a number a structure, background never counted.

    Parameters
    ----------
    case
        Its id.
    dice, hd95_mm
        In the order of `STRUCTURES`; the distance is infinite where a structure was not found.
    """

    case: str
    dice: tuple[float, ...]
    hd95_mm: tuple[float, ...]


@dataclass(frozen=True)
class PairScore:
    """How well one atlas is brought onto one case.

    Parameters
    ----------
    case, atlas
        Their ids.
    dice
        Of the atlas' warped labels, in the order of `STRUCTURES`.
    folds_percent, sd_log_jacobian
        By central differences, all voxels of the fixed grid.
    ndv_percent
        The volume turned inside out.
    """

    case: str
    atlas: str
    dice: tuple[float, ...]
    folds_percent: float
    sd_log_jacobian: float
    ndv_percent: float


Score = TypeVar("Score", CaseScore, PairScore)


def score_of(case: str, label_map: Tensor, truth: Image) -> CaseScore:
    """Score of a label map, `(*shape)` of label values, against the truth."""
    values = list(STRUCTURES)
    overlap = dice(label_map, truth.data, values)
    distance = hd95_mm(label_map, truth.data, values, spacing_mm=truth.grid.spacing_mm)
    return CaseScore(case, tuple(overlap[v] for v in values), tuple(distance[v] for v in values))


def score_pair(case: str, atlas: str, transform: Transform, label_map: Image, truth: Image) -> PairScore:
    """Score of a transform by the labels of the atlas, whose indicators are interpolated linearly."""
    moved = smallest_winner(resample_probabilities(label_map, torch.tensor(VALUES), truth.grid, transform))
    overlap, regular = dice(moved, truth.data, list(STRUCTURES)), folding(transform)
    volume = digital_folding(transform).volume_percent
    return PairScore(
        case, atlas, tuple(overlap[v] for v in STRUCTURES), regular.percent, regular.sd_log_jacobian, volume
    )


def dice_of(scores: Sequence[CaseScore] | Sequence[PairScore]) -> NDArray[np.float64]:
    """Dice of each case, its mean over atlases where there are several, `(case, structure)`, in order of appearance."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for score in scores:
        found.setdefault(score.case, []).append(score.dice)
    return np.array([np.mean(own, axis=0) for own in found.values()], dtype=np.float64)


def keep(file: Path, scores: Sequence[CaseScore] | Sequence[PairScore]) -> None:
    """Write scores, a row each."""
    write_table(file, pd.DataFrame([_flat(score) for score in scores]))


def kept(file: Path, kind: type[Score]) -> tuple[Score, ...]:
    """The scores of a file that `keep` wrote."""
    table = read_table(file, text=("case", "atlas"))
    return tuple(_whole({str(key): value for key, value in row.items()}, kind) for row in table.to_dict("records"))


def _flat(score: CaseScore | PairScore) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in vars(score).items():
        row |= _named(name, value) if name in _PER_STRUCTURE else {name: value}
    return row


def _named(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_{structure}": value for structure, value in zip(_NAMES, values, strict=True)}


def _whole(row: dict[str, Any], kind: type[Score]) -> Score:
    def value(name: str) -> Any:
        return tuple(float(row[f"{name}_{s}"]) for s in _NAMES) if name in _PER_STRUCTURE else row[name]

    return kind(**{item.name: value(item.name) for item in fields(kind)})
