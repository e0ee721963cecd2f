"""What each stage files as the facts of its record: the shapes that its readers rely on, checked before they read."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from covoxel.fusion.facts import facts_from_json
from covoxel.manifest import Manifest, Record

Number = float | None
"""A finite number, or None where there is none to name."""
Label = Annotated[str, StringConstraints(pattern=r"^-?\d+$")]
"""Value of a structure in a label map, as a key of JSON."""


class Percent(TypedDict):
    """How regular a transform is."""

    folded_percent: Number
    sd_log_jacobian: Number


class Loss(TypedDict):
    """A point of a learning curve."""

    step: int
    loss: Number


def _judged(rows: list[Any]) -> list[Any]:
    facts_from_json(rows)
    return rows


class NoFacts(TypedDict):
    """Of a stage whose files say it all."""


class CheckFacts(TypedDict):
    """Stage check."""

    reason: str | None
    voxels_sha256: str | None
    label_values: list[int]


class RegisterFacts(TypedDict):
    """Stage register, direct or through a template."""

    transforms: dict[str, Percent]
    template: NotRequired[int]


class ChooseFacts(TypedDict):
    """Stage choose."""

    kept: list[str]
    rejected: dict[str, str]


class CalibrateFacts(TypedDict):
    """Stage calibrate."""

    facts: Annotated[list[Any], AfterValidator(_judged)]
    curve: dict[Label, Number]


class LearnFacts(TypedDict):
    """Stage learn."""

    parameters: dict[str, dict[str, float]]
    curve: list[Loss]


class CorrectFacts(TypedDict):
    """Stage correct."""

    used: bool
    gain: Number
    sentence: str
    notes: list[str]


class ResultFacts(TypedDict):
    """A label map and its confidence; of an atlas that keeps its own, this is all."""

    certainty: Number
    ndim: Literal[2, 3]
    volumes_mm3: dict[Label, float]
    confidence: dict[Label, Number]


class AtlasFacts(TypedDict):
    """What an atlas was worth to a case."""

    likeness: Number
    agreement: Number
    trust: Number


class FuseFacts(ResultFacts):
    """Stage fuse."""

    quality: Number
    rule: str
    reason: str
    predicted: dict[str, Number]
    atlases: dict[str, AtlasFacts]
    rejected: dict[str, str]
    corrected: NotRequired[bool]


class SegmentFacts(TypedDict):
    """Stage segment."""

    agreement: dict[str, Number]
    agreement_of_structures: dict[str, dict[Label, Number]]
    spread: dict[str, Number]
    values: list[int]
    empty: list[str]


class DecideFacts(FuseFacts):
    """Stage decide."""

    candidate: str
    fusion_rule: str
    agreement: dict[str, Number]
    spread: dict[str, Number]


class DiceFacts(TypedDict):
    """Stages evaluate and judge: by structure, or by candidate."""

    dice: dict[str, Number]


class FigureFacts(TypedDict):
    """Stage figures."""

    figures: list[str]
    gaps: list[str]


class CohortFacts(TypedDict):
    """Cases that labelled a case."""

    cases: list[str]


class ReferenceFacts(TypedDict):
    """The image on whose grid a template begins."""

    reference: str


class PlaceFacts(TypedDict):
    """One registration to a template."""

    similarity: Number


class MeanFacts(TypedDict):
    """One step of a template."""

    number: int
    kind: str
    cases: int
    similarity: Number
    displacement_mm: Number
    drift_mm: Number
    ndv_percent: Number
    change: Number
    left_out: dict[str, str]


class LibraryFacts(TypedDict):
    """Groups of atlases."""

    templates: list[list[str]]


class UsualFacts(TypedDict):
    """Mean likeness of the atlases with each template."""

    likeness: list[float]


class AtlasLabelFacts(TypedDict):
    """A finished template."""

    labels: list[int]


class RoundFacts(TypedDict):
    """One round of a template by covariates."""

    effect_mm: Number
    change: Number


class ConditionalFacts(TypedDict):
    """Templates by covariates."""

    remarks: list[str]
    trends: list[str]


class LabelTemplateFacts(TypedDict):
    """Labels of a subject's template."""

    values: list[int]


class FitFacts(TypedDict):
    """A visit on the template of its subject."""

    likeness: Number
    folded_percent: Number
    displacement_mm: Number


class WithinFacts(TypedDict):
    """Template of a subject."""

    visits: list[str]
    found: dict[str, FitFacts]


class VisitFacts(ResultFacts):
    """Volumes of a visit, mm³, from its label map, its probabilities and its transform."""

    labels: dict[Label, float]
    jacobian: dict[Label, float]


DriftFacts = TypedDict(
    "DriftFacts",
    {"id": str, "label": int, "from": str, "before_mm3": float, "after_mm3": float, "added": str | None},
)


class FollowFacts(TypedDict):
    """Stage follow."""

    visits: dict[str, VisitFacts]
    drift: list[DriftFacts]


class PlanFacts(TypedDict):
    """Stage plan-nnunet."""

    profile: dict[str, Any]


class FoldFacts(TypedDict):
    """Stage train-nnunet."""

    drawn: int
    fused: int
    held_out: list[str]
    losses: list[Number]
    remarks: list[str]


class TrainFacts(TypedDict):
    """Stage train."""

    steps: int
    best_step: int
    validation: Number
    stopped_early: bool
    notes: list[str]
    left_out: dict[str, str]


class SentenceFacts(TypedDict):
    """A verdict in words."""

    sentence: str


class JointTrainingFacts(TypedDict):
    """Stage train-joint."""

    cases: int
    drawn: int
    fused: int
    verdicts: list[SentenceFacts]
    scores: dict[str, dict[str, dict[Label, Number]]]
    alphas: dict[str, list[list[list[float]]]]
    notes: list[str]
    left_out: dict[str, str]


def fits(facts: Mapping[str, Any], shape: type) -> bool:
    """Whether facts, as read from JSON, have all that a shape names; what else they have is not looked at."""
    try:
        _adapter(shape).validate_python(dict(facts), strict=True)
    except (ValidationError, RecursionError):
        return False
    return True


def read_record(manifest: Manifest, stage: str, case: str, shape: type) -> Record | None:
    """The record of a case, None if there is none, it does not validate or its facts lack something of a shape."""
    record = manifest.read(stage, case)
    return record if record is not None and fits(record.facts, shape) else None


@cache
def _adapter(shape: type) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
