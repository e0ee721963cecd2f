"""The plain data a report is made of: cases, structures, stages, settings; nothing here computes or draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from covoxel.report.fusion_model import AtlasRow, CalibrationPoint, CurvePoint, LearningPoint
from covoxel.report.joint_model import JointReport

DONE = "done"


@dataclass(frozen=True)
class StructureRow:
    """One structure of one case: a row of `volumes.tsv` joined with the same row of `metrics.tsv`.

    Parameters
    ----------
    label
        Value in the label map; background (0) is no structure and is refused.
    structure
        Name of the structure; empty for "label N".
    volume_ml
        Volume in millilitres (area in cm² for a 2-D case), None where unknown.
    dice
        Measured Dice against a true label, 0 to 1; None or NaN where it was not measured or is not applicable.
    confidence
        Mean voxelwise confidence inside the structure, 0 to 1.

    Raises
    ------
    ValueError
        If `label` is 0.
    """

    label: int
    structure: str = ""
    volume_ml: float | None = None
    dice: float | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.label == 0:
            raise ValueError("label must not be 0, got 0: background is never a structure of a report")

    @property
    def name(self) -> str:
        """The structure's name, or "label N"."""
        return self.structure or f"label {self.label}"


@dataclass(frozen=True)
class CaseReport:
    """One case: a row of `cases.tsv`, its structures and its figures.

    Parameters
    ----------
    id
        Case id as in the tables. Any text: it is escaped.
    status
        "done", or any other word ("failed", "set aside"), which puts the case among those that need a look.
    reason
        The sentence that says why a case is not done, or what is odd about it.
    role
        "atlas", "unlabelled", "test" …
    predicted_dice
        Predicted quality, 0 to 1, where a flow predicts it.
    confidence
        Mean voxelwise confidence, 0 to 1; None: the mean over `rows` where they have it.
    folded_percent
        Percent of voxels whose Jacobian determinant is 0 or less, of the worst transform onto this case.
    sd_log_jacobian
        Standard deviation of the logarithm of the Jacobian determinant (natural logarithm).
    seconds
        Time spent on the case.
    flags
        Short remarks ("small volume").
    rows
        The structures.
    figures
        Image bytes (PNG, JPEG or WebP) by key, as `case_figures` returns them; an unknown key is its own caption.
    rule
        Fusion rule that made the result; empty where none did.
    rule_reason
        Why this rule, in a sentence.
    predicted_by_rule
        Predicted Dice of the result of each candidate rule, 0 to 1.
    atlases
        What each atlas was worth to this case, those left out among them.
    candidate
        Whose label map was kept: "fusion", "joint", "nnunet", or a mean, "fusion+joint"; empty where no network was
        asked.
    choice
        Why, in a sentence.
    predicted_by_candidate
        Predicted Dice of each candidate, 0 to 1.
    agreement
        Dice of the networks' label maps with the fused one, 0 to 1, mean over structures and networks.
    spread
        Disagreement, 0 to 1, of the views of the image that a network saw.
    template
        Which of several templates served the case; empty where there is one or none.
    gaps
        Sentences in the place of figures that could not be drawn.
    """

    id: str
    status: str = DONE
    reason: str = ""
    role: str = ""
    predicted_dice: float | None = None
    confidence: float | None = None
    folded_percent: float | None = None
    sd_log_jacobian: float | None = None
    seconds: float | None = None
    flags: tuple[str, ...] = ()
    rows: tuple[StructureRow, ...] = ()
    figures: Mapping[str, bytes] = field(default_factory=dict)
    rule: str = ""
    rule_reason: str = ""
    predicted_by_rule: Mapping[str, float] = field(default_factory=dict)
    atlases: tuple[AtlasRow, ...] = ()
    candidate: str = ""
    choice: str = ""
    predicted_by_candidate: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None
    spread: float | None = None
    template: str = ""
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A stage of the run: seconds of work added over its cases, and how many artifacts it computed or reused."""

    name: str
    seconds: float
    computed: int | None = None
    reused: int | None = None


@dataclass(frozen=True)
class Report:
    """Everything one page shows. All of it is plain data and all text is escaped when rendered.

    Parameters
    ----------
    title
        Heading of the page.
    cases
        All cases of the cohort, in any order; the page puts the worst first.
    cohort
        Name of the cohort (not its path).
    created
        Date and time as text; None leaves it out, so that equal runs give equal pages.
    stages
        In the order they ran.
    components
        Names of the components that ran ("affine", "svf", "locally_weighted", "n4"); they make the methods text.
    interpolation
        How images and labels were brought onto the case's grid.
    settings
        Settings as nested mappings of plain values.
    versions
        Version by package.
    device
        "cpu", "NVIDIA H200" …
    notes
        Further sentences for the reader, shown under the headline.
    calibration
        Predicted against true Dice of the atlases, each segmented from the others.
    atlas_curve
        Dice against the number of atlases.
    learning
        Learning curve of the data parameters, in the order of its steps.
    joint
        What is known of the joint network; None where there is none.
    """

    title: str
    cases: tuple[CaseReport, ...] = ()
    cohort: str = ""
    created: str | None = None
    stages: tuple[Stage, ...] = ()
    components: tuple[str, ...] = ()
    interpolation: str = "Images and label indicators: linear, once. Label map: the most probable label."
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    notes: tuple[str, ...] = ()
    calibration: tuple[CalibrationPoint, ...] = ()
    atlas_curve: tuple[CurvePoint, ...] = ()
    learning: tuple[LearningPoint, ...] = ()
    joint: JointReport | None = None
