"""Facts of a joint model folder: what `joint.json` says of the networks, their labels and the alarm, checked."""

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from covoxel.registration.model import Alignment
from covoxel.training.joint import Verdict
from tasks.same_labels import LabelContent
from tasks.weights import check, read_facts

FACTS = "joint.json"
FORMAT = "covoxel joint model 1"


class VerdictFacts(BaseModel):
    """A `Verdict` as JSON says it; numbers that there are not are null."""

    model_config = ConfigDict(frozen=True)

    label: int = Field(ge=1)
    use: Literal["joint", "separate"]
    cases: int = Field(ge=0)
    difference: float | None
    low: float | None
    high: float | None
    sentence: str


class JointFacts(BaseModel):
    """What `joint.json` says, as far as others depend on it.

    Parameters
    ----------
    recipe
        Its name.
    ndim
        2 or 3.
    values
        Values of the labels in a label map, ascending, 0 first; empty where no label was there to teach.
    spacing_mm
        Voxel size of the training images along R, A (and S).
    alignment
        How they were laid on one another.
    smallest_side, bytes_per_voxel
        Of the network that segments, see `ImageModel`.
    files
        SHA-256 of the other files by name.
    verdicts
        What the alarm said of each label.
    notes
        What is worth saying of the training.
    taught_by
        The label maps it learnt from, which cannot score it.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["covoxel joint model 1"]
    recipe: str
    ndim: Literal[2, 3]
    values: tuple[int, ...]
    spacing_mm: tuple[PositiveFloat, ...] = Field(min_length=2, max_length=3)
    alignment: Alignment
    smallest_side: int = Field(1, ge=1, le=4096)
    bytes_per_voxel: int = Field(1000, ge=1, le=10**9)
    files: dict[str, str]
    verdicts: tuple[VerdictFacts, ...] = ()
    notes: tuple[str, ...] = ()
    taught_by: tuple[LabelContent, ...] = ()

    @property
    def hurt(self) -> tuple[int, ...]:
        """Places, in the list of labels, of those that joint training hurts."""
        return tuple(verdict.label for verdict in self.verdicts if verdict.use == "separate")


def joint_facts(folder: Path) -> JointFacts:
    """What `joint.json` of a folder says, checked.

    Raises
    ------
    ModelError
        If it is missing or corrupt, or says what cannot be.
    """
    facts = read_facts(folder / FACTS, JointFacts, "train-joint")
    values = facts.values
    check(
        not values or (len(values) > 1 and values[0] == 0 and list(values) == sorted(set(values))),
        folder,
        f"{FACTS}: values must ascend from 0, got {list(values)}",
    )
    axes = f"{FACTS}: spacing_mm = {facts.spacing_mm} must have a value for each of {facts.ndim} axes"
    check(len(facts.spacing_mm) == facts.ndim, folder, axes)
    wrong = [verdict.label for verdict in facts.verdicts if verdict.label >= len(values)]
    check(not wrong, folder, f"{FACTS}: verdicts must be of labels 1 to {len(values) - 1}, got one of {wrong[:1]}")
    return facts


def plain_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON says it."""
    numbers = {name: getattr(verdict, name) for name in ("difference", "low", "high")}
    known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {"label": verdict.label, "use": verdict.use, "cases": verdict.cases, **known, "sentence": verdict.sentence}
