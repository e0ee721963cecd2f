"""The plain data of label fusion in a report: atlases of a case, predictions, curves."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class AtlasRow:
    """One atlas of one case: what speaks for it, and why it was left out.

    Parameters
    ----------
    id
        Case id of the atlas. Any text: it is escaped.
    agreement
        Dice of its propagated label with the result of this case, mean over structures, 0 to 1.
    likeness
        Correlation of its moved image with the case, −1 to 1.
    trust
        Learned confidence, 0 to 1: the sigmoid of its data parameter, not the raw parameter.
    rejected
        The sentence that says why it was left out before fusion; empty if it took part.

    Raises
    ------
    ValueError
        If `trust` is outside 0 to 1; NaN counts as unknown.
    """

    id: str
    agreement: float | None = None
    likeness: float | None = None
    trust: float | None = None
    rejected: str = ""

    def __post_init__(self) -> None:
        if self.trust is not None and not math.isnan(self.trust) and not 0 <= self.trust <= 1:
            raise ValueError(f"trust must be 0 to 1, the sigmoid of a data parameter, got {self.trust} of {self.id!r}")


@dataclass(frozen=True)
class CalibrationPoint:
    """A prediction that could be checked: an atlas segmented from the others, its own label as truth.

    Parameters
    ----------
    case
        Id of the atlas that was left out.
    rule
        Fusion rule that was judged.
    predicted, measured
        Dice, 0 to 1, mean over structures.
    planted
        The evidence was spoilt on purpose, so that the prediction had a failure to find.
    """

    case: str
    rule: str
    predicted: float
    measured: float
    planted: bool = False


@dataclass(frozen=True)
class CurvePoint:
    """Mean Dice with a number of atlases; `low` and `high` are the ends of its 95 % interval, None if unknown."""

    atlases: int
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LearningPoint:
    """Training of data parameters at one step: its loss, and the validation figure where one was taken."""

    step: int
    loss: float
    validation: float | None = None
