"""Settings of every stage: what there is, what it may be, and what it is unless somebody says otherwise."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

SELECT = "select"
"""In place of a rule: for each case the candidate whose result is predicted best."""

DATA_PARAMETERS = "data_parameters"
"""The rule that needs to have been learnt how far each atlas can be trusted."""

AtlasScore = Literal["likeness", "template", "weight"]

OptionValue = bool | int | float | str | list[bool | int | float | str] | None


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

JOINT_RECIPE = "deepatlas-fused"
"""By which networks are trained jointly, unless another recipe is named."""

NetworkName = Literal["joint", "nnunet"]

Route = Literal["direct", "template"]

Segmenter = Literal["fusion", "joint", "nnunet", "auto"]

Share = Annotated[float, Field(ge=0, le=1)]

Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""A folder that keeps its meaning in another working directory."""


File = Folder
"""A file that keeps its meaning likewise."""


def _found_from_anywhere(recipe: str) -> str:
    is_name = len(Path(recipe).parts) == 1 and Path(recipe).suffix not in (".yaml", ".yml")
    return recipe if is_name else str(Path(recipe).expanduser().absolute())


RecipeName = Annotated[str, AfterValidator(_found_from_anywhere)]
"""A recipe's name, or its file, which keeps its meaning in another working directory."""


class SettingsError(ValueError):
    """The settings are wrong; the message names file, key or value, and the rule."""


class _Stage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CohortSettings(_Stage):
    """Which files of a cohort are taken, where a BIDS folder offers several."""

    image: str = Field(
        "T1w",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="ending of the images, with entities if wanted: T1w, T2w, acq-mprage_T1w",
    )
    label: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="entity or folder of the label maps: desc-manual, or manual; null: each image must have one only",
    )
    run: int | None = Field(
        None, ge=0, description="number of the run that is taken where runs are numbered; null: each is a case"
    )
    ids: Literal["folder", "hash"] = Field(
        "folder", description="names of DICOM cases: those of their folders, or a hash where these are people's names"
    )
    trusted: bool = Field(
        True, description="false, for a cohort of others: its tables and links must not lead out of its folder"
    )


class PreprocessSettings(_Stage):
    """How each image is prepared; results always return to the image's own grid."""

    bias: bool = Field(False, description="remove the bias field with N4 (slow; for MR images with shading)")
    spacing_mm: PositiveFloat | None = Field(
        None, description="voxel size to work at in mm; null keeps each image's own"
    )
    crop: bool = Field(False, description="work on the foreground only")
    margin_mm: float = Field(5.0, ge=0, description="what cropping leaves around the foreground, in mm")


class RegisterSettings(_Stage):
    """How atlases are brought onto each case."""

    engine: str = Field("svf", description="a registration engine: identity, affine, svf, learned, learned+svf …")
    model: Folder | None = Field(None, description="folder of a trained network, for the engines that need one")
    labels: Folder | None = Field(
        None, description="folder of predicted label maps ID.nii.gz that drive learned+svf beside the images"
    )
    options: dict[str, OptionValue] = Field({}, description="options of that engine by name")
    route: Route = Field(
        "direct",
        description="direct: each atlas onto each case; template: each case onto a template of the atlases, once",
    )
    refine: int = Field(5, ge=0, le=50, description="for the route template: short steps that improve each pair")

    def directly(self) -> dict[str, Any]:
        """What decides a registration of an atlas onto a case, as plain data."""
        return self.model_dump(mode="json", exclude={"model", "labels", "route", "refine"})


class ConditionalSettings(_Stage):
    """A template as a function of what is known of people, for build-atlas."""

    by: list[str] = Field([], description="columns of participants.tsv: age, sex, group …; none: one template for all")
    at: dict[str, list[float | str]] = Field(
        {}, description="values for which templates are written, by column; none: ends and middle, or each level"
    )
    participants: File | None = Field(
        None, description="that table: participant_id, …; null: the one beside the cohort"
    )
    degree: int = Field(1, ge=1, le=3, description="of the curve over a number: 1 straight, 2 or 3 bent")
    rounds: int = Field(2, ge=0, le=20, description="registrations of every case with regard to what is known of it")


class TemplateSettings(_Stage):
    """How a template is built: by build-atlas, and of the atlases where they come by the route template."""

    engine: Literal["svf", "learned"] = Field("svf", description="svf, or learned with the network of register.model")
    freedom: Literal["rigid", "similarity", "affine"] = Field("affine", description="of the affine part")
    similarity: str = Field("lncc", description="by what images are compared with the template: lncc, ncc, mind …")
    contrast: Literal["one", "many"] = Field(
        "one", description="many: images of different contrast may take part, compared by mutual information"
    )
    iterations: int = Field(4, ge=0, le=50, description="deformable registrations of every image at most")
    tolerance: float = Field(0.02, ge=0, description="they end when the template changes by less, as part of its SD")
    sharpen: float = Field(0.5, ge=0, le=5, description="sharpening of each mean; 0: none")
    count: int = Field(
        1,
        ge=1,
        le=64,
        description="for the route template: templates of the atlases at most; a case goes to the closest",
    )
    conditional: ConditionalSettings = ConditionalSettings()

    def building(self) -> dict[str, Any]:
        """What decides one template, as plain data."""
        return self.model_dump(mode="json", exclude={"count", "conditional"})


class AtlasSettings(_Stage):
    """Which of the named atlases label a case."""

    count: PositiveInt | None = Field(None, description="the best so many for each case; null keeps all")
    by: AtlasScore = Field(
        "likeness", description="best by likeness after affine, on the template, or by learnt weight"
    )


class FuseSettings(_Stage):
    """How the labels of several atlases become one label map."""

    rule: str = Field(SELECT, description="select, or a fusion rule: majority, locally_weighted …")
    options: dict[str, OptionValue] = Field({}, description="options of that rule by name")
    candidates: list[str] = Field(
        ["majority", "locally_weighted", "joint_label_fusion"],
        min_length=1,
        description="rules among which select chooses for each case",
    )
    calibrate_on: int | None = Field(
        6,
        ge=2,
        description="atlases labelled by the others, from which select learns; null: all (as with --correct, networks)",
    )
    judge_voxels: PositiveInt = Field(
        10**6,
        description="in a larger image rules are tried, and Dice is predicted, on so many cells of several voxels",
    )
    correct: bool = Field(
        False,
        description="learn from the atlases, each labelled by the others, to correct what fusion does wrong; some "
        "minutes",
    )
    correct_steps: PositiveInt = Field(400, description="steps of that training, which is done six times")

    def fusing(self) -> dict[str, Any]:
        """What decides a fused label map before it is corrected, as plain data."""
        return self.model_dump(mode="json", exclude={"calibrate_on", "correct", "correct_steps"})


class LearnSettings(_Stage):
    """How much each atlas is trusted on each case, learnt by a network (for data_parameters)."""

    network: str = Field("lraspp", description="a segmentation network: lraspp, unet …")
    teacher: str | None = Field(
        "joint_label_fusion", description="rule whose results teach the network; null: all propagated labels alike"
    )
    epochs: int = Field(32, ge=13, description="passes over the cohort; trust is learnt from the 13th on")
    seed: int = Field(0, ge=0, description="of everything that is drawn at random")


class TrainSettings(_Stage):
    """How networks are trained, beside what their recipes say."""

    labels: Folder | None = Field(
        None, description="for train-registration: folder of predicted label maps ID.nii.gz that teach too"
    )
    precision: Precision = Field("32-true", description="32-true, bf16-mixed or 16-mixed (on a GPU)")
    devices: PositiveInt = Field(1, description="GPUs that share each batch (train-registration)")


class NnunetSettings(_Stage):
    """How nnU-Net is trained, on the labels of the atlases and on fused ones, where it segments."""

    profile: Literal["auto", "cpu", "gpu", "gpu-resenc"] = Field(
        "auto", description="cpu, small enough for two cores; gpu, nnU-Net's own; auto: by the device"
    )
    override: dict[str, OptionValue] = Field({}, description="fields of the profile: epochs, batch, patch, features …")
    folds: int = Field(1, ge=1, le=5, description="networks that are averaged; each holds out other atlases")
    rounds: int = Field(1, ge=1, le=2, description="2: fused labels give way to surer predictions; train again")
    power: float = Field(1.0, ge=0, le=8, description="a fused voxel weighs its confidence to this power")
    ignore_below: Share = Field(0.0, description="fused voxels of less confidence are not seen by the loss")
    fused_weight: float = Field(1.0, ge=0, le=100, description="of a fused case in the loss, beside 1 of an atlas")
    hand_share: Share = Field(0.0, description="least share of the patches that are from atlases")
    model: Folder | None = Field(None, description="folder of a trained nnU-Net, anybody's; null: one is trained")


class SegmentSettings(_Stage):
    """Who segments in few-shot: the fused atlases, networks trained on them, or the best of all for each case."""

    segmenter: Segmenter = Field(
        "fusion", description="fusion, joint, nnunet, or auto: for each case what is predicted best"
    )
    networks: tuple[NetworkName, ...] = Field(("joint",), min_length=1, description="networks that auto compares")
    recipe: RecipeName = Field(JOINT_RECIPE, description="joint recipe, or its YAML file, that the network is of")
    model: Folder | None = Field(None, description="folder of a trained joint model; null: one is trained")
    views: int = Field(8, ge=1, le=64, description="views of each image over which the joint network is averaged")
    cohort: int = Field(
        12,
        ge=0,
        le=100,
        description="with one atlas and auto: so many other cases, labelled by a network, are atlases too",
    )
    nnunet: NnunetSettings = NnunetSettings()

    @property
    def asked(self) -> tuple[NetworkName, ...]:
        """Networks that segment beside fusion."""
        if self.segmenter == "fusion":
            return ()
        return tuple(dict.fromkeys(self.networks)) if self.segmenter == "auto" else (self.segmenter,)


class LongitudinalSettings(_Stage):
    """How the visits of a subject are followed, for longitudinal."""

    rule: str = Field("joint_label_fusion", description="fusion rule by which atlases label each subject's template")
    network: NetworkName | None = Field(
        None, description="joint or nnunet: the model of segment.model or segment.nnunet.model speaks too"
    )
    levels: int = Field(2, ge=0, le=5, description="2: shifts of some eight voxels between visits are found; 0: of two")
    rounds: PositiveInt = Field(5, description="steps in which template and visits are brought together")
    update_rounds: int = Field(
        0,
        ge=0,
        description="the same after a visit was added; more than none moves earlier visits past a run from scratch",
    )
    update: bool = Field(True, description="add a new visit to the template there is; false: do it anew")
    covariates: list[str] = Field([], description="columns of participants.tsv whose effects the model allows for")
    group: str | None = Field(None, description="column of participants.tsv whose levels may change differently")
    participants: File | None = Field(
        None, description="that table: participant_id, session, covariates; null: the one beside the cohort"
    )


class ReportSettings(_Stage):
    """What the report shows."""

    title: str = Field("", description="heading of the report; empty: the name of the cohort")
    figures: int = Field(60, ge=0, description="cases with figures at most, those of lowest confidence first")


class FewShotSettings(_Stage):
    """All settings of a run, a section a stage."""

    cohort: CohortSettings = CohortSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    register_: RegisterSettings = Field(RegisterSettings(), alias="register")
    template: TemplateSettings = TemplateSettings()
    atlases: AtlasSettings = AtlasSettings()
    learn: LearnSettings = LearnSettings()
    fuse: FuseSettings = FuseSettings()
    train: TrainSettings = TrainSettings()
    segment: SegmentSettings = SegmentSettings()
    longitudinal: LongitudinalSettings = LongitudinalSettings()
    report: ReportSettings = ReportSettings()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def require(fits: bool, wrong: str) -> None:
    """Refuse settings that do not fit; `wrong` says which and why.

    Raises
    ------
    SettingsError
        If they do not.
    """
    if not fits:
        raise SettingsError(f"settings: {wrong}")
