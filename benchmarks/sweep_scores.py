"""Scores of a label sweep: overlap and surfaces of a case's label map, kept on disk so that a killed sweep goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.fusion_evidence import STRUCTURES
from covoxel.io import read_table, write_table
from covoxel.metrics import dice, hd95_mm

_NAMES = tuple(STRUCTURES.values())
_KINDS = ("dice", "hd95_mm")


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


def score_of(case: str, label_map: Tensor, truth: Tensor, spacing_mm: Sequence[float]) -> CaseScore:
    """Score of a label map, `(*shape)` of label values, against the truth."""
    values = list(STRUCTURES)
    overlap, distance = dice(label_map, truth, values), hd95_mm(label_map, truth, values, spacing_mm=spacing_mm)
    return CaseScore(case, tuple(overlap[v] for v in values), tuple(distance[v] for v in values))


def dice_of(scores: Sequence[CaseScore]) -> NDArray[np.float64]:
    """Dice of each case, mean over the structures, `(case,)`."""
    return np.array([np.mean(score.dice) for score in scores])


def keep(file: Path, scores: Sequence[CaseScore]) -> None:
    """Write scores, a row a case."""
    rows = [
        {"case": score.case}
        | {f"{kind}_{name}": value for kind in _KINDS for name, value in zip(_NAMES, getattr(score, kind), strict=True)}
        for score in scores
    ]
    write_table(file, pd.DataFrame(rows))


def kept(file: Path) -> tuple[CaseScore, ...]:
    """The scores of a file that `keep` wrote."""
    table = read_table(file, text=("case",))
    dices, distances = (table[[f"{kind}_{name}" for name in _NAMES]].to_numpy(np.float64) for kind in _KINDS)
    rows = zip(table["case"], dices.tolist(), distances.tolist(), strict=True)
    return tuple(CaseScore(str(case), tuple(overlap), tuple(distance)) for case, overlap, distance in rows)
