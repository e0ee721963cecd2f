"""The plain data of joint training in a report: verdicts, held-out atlases, learning curves, stitch units."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Alphas = tuple[tuple[tuple[float, float], tuple[float, float]], ...]
"""Of each channel `[[α_SS, α_SR], [α_RS, α_RR]]`: what the segmenting and the registering path take of each other."""


@dataclass(frozen=True)
class VerdictRow:
    """What the arbiter says of one structure: the sentence, and whether joint training hurts it."""

    sentence: str
    alarming: bool = False


@dataclass(frozen=True)
class JudgedRow:
    """True Dice, mean over structures, by candidate, on an atlas that taught the networks in it nothing."""

    id: str
    dice: Mapping[str, float]


@dataclass(frozen=True)
class JointPoint:
    """One number of the learning curve: its name ("registration loss"), its step over all phases, its value."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class JointReport:
    """What a page says of the network that registers and segments.

    Parameters
    ----------
    name
        Of the recipe it was trained by.
    verdicts
        A sentence a structure.
    judged
        Held-out atlases.
    curve
        Numbers of the learning curve, each name in the order of its steps.
    alphas
        Stitch units by place, in the order in which features pass them.
    """

    name: str
    verdicts: tuple[VerdictRow, ...] = ()
    judged: tuple[JudgedRow, ...] = ()
    curve: tuple[JointPoint, ...] = ()
    alphas: Mapping[str, Alphas] = field(default_factory=dict)
