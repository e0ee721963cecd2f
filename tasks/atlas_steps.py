"""Steps of a template: every case brought onto the template there is, a job each, and then the mean of them all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from prefect import task

from covoxel.atlas import Placement, Step, TemplateSettings, read_placement, write_placement
from covoxel.atlas.mean import astray, mean_of, of_other_contrast
from covoxel.atlas.order import mass, provisional_reference
from covoxel.atlas.place import place as place_image
from covoxel.io import read_image, write_image
from tasks import settings as of_user
from tasks.facts import MeanFacts, PlaceFacts, ReferenceFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.models import load_model, model_sha256
from tasks.options import TASK_OPTIONS
from tasks.study import Study

CODE = (
    "covoxel.atlas",
    "covoxel.spatial",
    "covoxel.io",
    "covoxel.losses",
    "covoxel.metrics",
    "covoxel.preprocessing",
    "covoxel.registration",
    "tasks.atlas_steps",
)

J = TypeVar("J", bound=Job)
V = TypeVar("V")


@dataclass(frozen=True)
class Group:
    """Cases of one template, and what it is called; several templates may be on their way in one folder."""

    name: str
    cases: tuple[str, ...]


class Read(Mapping[str, V]):
    """Files by id, each read when it is asked for, so that one is held at a time."""

    def __init__(self, files: Mapping[str, Artifact], read: Callable[[Path], V]) -> None:
        self._files, self._read = files, read

    def __getitem__(self, name: str) -> V:
        return self._read(self._files[name].path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@dataclass(frozen=True)
class ReferenceJob(Job):
    """Images of a group, of which one is the first onto which the others are brought."""

    stage = "reference"
    facts = ReferenceFacts
    code = ("covoxel.atlas.order", "covoxel.spatial", "covoxel.io", "tasks.atlas_steps")

    images: Mapping[str, Artifact]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: image.sha256 for name, image in self.images.items()}


@task(task_run_name="reference of a template", **TASK_OPTIONS)
@work
def reference(job: ReferenceJob) -> Made:
    """Find the image of median mass; the facts name it."""
    masses = {name: mass(read_image(image.path)) for name, image in job.images.items()}
    digests = {name: image.sha256 for name, image in job.images.items()}
    return Made([], {"reference": provisional_reference(masses, digests)})


@dataclass(frozen=True)
class PlaceJob(Job):
    """A case to be brought onto a template.

    Parameters
    ----------
    image
        Its preprocessed image.
    fixed
        The template, or the provisional reference.
    before, shape
        Where the case lay in the step before, and what that step took out of the template's shape; None in the first.
    step, group
        Which step of which template this is.
    settings, network, model
        How; SHA-256 and folder of the network of an engine that has one.
    """

    stage = "place"
    facts = PlaceFacts
    code = CODE

    image: Artifact
    fixed: Artifact
    before: Artifact | None
    shape: Artifact | None
    step: Step
    group: str
    settings: of_user.TemplateSettings
    network: str | None = None
    model: Path | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        files = {"image": self.image, "fixed": self.fixed, "before": self.before, "shape": self.shape}
        found = {name: file.sha256 for name, file in files.items() if file is not None}
        return found if self.network is None else found | {"model": self.network}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        placing = self.settings.building()
        for other in ("iterations", "tolerance", "sharpen"):
            del placing[other]
        return {**placing, "iteration": self.step.iteration}


@task(task_run_name="place {job.case} on a template", **TASK_OPTIONS)
@work
def place(job: PlaceJob) -> Made:
    """Write where the case lies on the template."""
    before = None if job.before is None else read_placement(job.before.path)
    if before is not None and job.shape is not None:
        before = before.after(read_placement(job.shape.path))
    fixed, image = (read_image(file.path).to(job.device) for file in (job.fixed, job.image))
    options = {} if job.model is None else {"model": load_model(job.model, job.device)}
    found = place_image(fixed, image, before, job.step, core_settings(job.settings), options)
    path = job.layout.placement(job.group, job.step.number, job.case)
    write_placement(path, found)
    return Made([path], {"similarity": number(found.similarity)})


@dataclass(frozen=True)
class MeanJob(Job):
    """Cases that were brought onto a template, of which the next one is made.

    Parameters
    ----------
    images, placements
        By id, in an order that depends on their content alone.
    fixed
        Onto what they were brought.
    step, group, settings
        As for `PlaceJob`.
    """

    stage = "mean"
    facts = MeanFacts
    code = CODE

    images: Mapping[str, Artifact]
    placements: Mapping[str, Artifact]
    fixed: Artifact
    step: Step
    group: str
    settings: of_user.TemplateSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        images = {f"image.{name}": file.sha256 for name, file in self.images.items()}
        placements = {f"placement.{name}": file.sha256 for name, file in self.placements.items()}
        return {"fixed": self.fixed.sha256, **images, **placements}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        averaging = self.settings.model_dump(mode="json", include={"contrast", "sharpen"})
        return {**averaging, "iteration": self.step.iteration}


@task(task_run_name="mean of the cases on a template", **TASK_OPTIONS)
@work
def mean(job: MeanJob) -> Made:
    """Write the next template and what was taken out of its shape; the facts are its row of the history."""
    images, placements = Read(job.images, read_image), Read(job.placements, read_placement)
    similarities = {name: placements[name].similarity for name in placements}
    if job.step.number == 0 and job.settings.contrast == "one":
        wrong = of_other_contrast(similarities)
        if wrong:
            raise ValueError(wrong)
    left_out = astray(similarities) if job.step.number else {}
    names = [name for name in images if name not in left_out]
    if len(names) < 2:
        raise ValueError(f"a template needs two images or more, and {len(names)} are left")
    fixed = read_image(job.fixed.path).to(job.device)
    found = mean_of(names, images, placements, fixed, job.step, core_settings(job.settings))
    outputs = [job.layout.mean_image(job.group, job.step.number), job.layout.mean_shape(job.group, job.step.number)]
    write_image(outputs[0], found.image.to("cpu"))
    write_placement(outputs[1], found.shape)
    facts = {name: number(value) if isinstance(value, float) else value for name, value in asdict(found.facts).items()}
    return Made(outputs, {**facts, "left_out": left_out})


def core_settings(settings: of_user.TemplateSettings) -> TemplateSettings:
    """The settings as the core takes them."""
    return TemplateSettings(**settings.building())


def stage_name(kind: str, group: str, step: int) -> str:
    """Name of the stage in which the cases of a group are placed, or averaged, in a step."""
    return f"{group}-{kind}-{step}"


def reference_jobs(study: Study, group: Group) -> list[ReferenceJob]:
    """The one job, where a group has two sound cases or more."""
    images = _images(study, group)
    if len(images) < 2:
        return []
    return [of_stage(ReferenceJob, f"{group.name}-reference")(COHORT, study.call.output, "cpu", images)]


def place_jobs(study: Study, group: Group, step: Step) -> list[PlaceJob]:
    """A job for each sound case, unless the template is finished or could not be begun."""
    fixed, shape = fixed_of(study, group, step), None
    if fixed is None:
        return []
    images, before = _images(study, group), {}
    if step.number:
        shape = study.artifact(
            stage_name("mean", group.name, step.number - 1),
            COHORT,
            study.layout.mean_shape(group.name, step.number - 1),
        )
        before = _placements(study, group, step.number - 1)
    settings, model = study.call.settings.template, study.call.settings.register_.model
    learned = settings.engine != "svf" and not step.is_affine and model is not None
    kind = of_stage(PlaceJob, stage_name("place", group.name, step.number))
    return [
        kind(
            case,
            study.call.output,
            study.device,
            image=image,
            fixed=fixed,
            before=before.get(case),
            shape=shape,
            step=step,
            group=group.name,
            settings=settings,
            network=model_sha256(model) if learned and model is not None else None,
            model=model if learned else None,
        )
        for case, image in images.items()
    ]


def mean_jobs(study: Study, group: Group, step: Step) -> list[MeanJob]:
    """The one job, if cases were placed in this step."""
    fixed = fixed_of(study, group, step)
    placements = _placements(study, group, step.number)
    if fixed is None or len(placements) < 2:
        return []
    images = {name: image for name, image in _images(study, group).items() if name in placements}
    kind = of_stage(MeanJob, stage_name("mean", group.name, step.number))
    settings = study.call.settings.template
    return [
        kind(COHORT, study.call.output, study.device, images, placements, fixed, step, group.name, settings=settings)
    ]


def note_left_out(study: Study, group: Group, step: int) -> None:
    """Let the study know of the cases that a step has left out."""
    record = study.record(stage_name("mean", group.name, step), COHORT)
    for case, reason in record.facts["left_out"].items() if record else ():
        study.failed.setdefault(case, reason)


def last_step(study: Study, group: Group) -> Step | None:
    """The last step that was done, None before the first."""
    steps = core_settings(study.call.settings.template).steps
    done = [step for step in steps if study.record(stage_name("mean", group.name, step.number), COHORT)]
    return done[-1] if done else None


def fixed_of(study: Study, group: Group, step: Step) -> Artifact | None:
    """Onto what the cases are brought in a step; None if the template is finished before, or there is none."""
    if step.number == 0:
        record = study.record(f"{group.name}-reference", COHORT)
        if record is None:
            return None
        chosen = str(record.facts["reference"])
        return study.artifact("preprocess", chosen, study.layout.preprocessed(chosen))
    before = step.number - 1
    record = study.record(stage_name("mean", group.name, before), COHORT)
    if record is None or _has_converged(study, record.facts, Step(before, step.iteration - 1)):
        return None
    return study.artifact(stage_name("mean", group.name, before), COHORT, study.layout.mean_image(group.name, before))


def _has_converged(study: Study, facts: Mapping[str, Any], step: Step) -> bool:
    change = facts["change"]
    return step.iteration > 0 and change is not None and change < study.call.settings.template.tolerance


def _images(study: Study, group: Group) -> dict[str, Artifact]:
    """Preprocessed images of the sound cases, in an order that depends on their content alone."""
    files = {
        case: study.artifact("preprocess", case, study.layout.preprocessed(case))
        for case in group.cases
        if study.is_sound(case)
    }
    return dict(sorted(files.items(), key=lambda item: (item[1].sha256, item[0])))


def _placements(study: Study, group: Group, step: int) -> dict[str, Artifact]:
    stage = stage_name("place", group.name, step)
    return {
        case: study.artifact(stage, case, study.layout.placement(group.name, step, case))
        for case in _images(study, group)
        if study.record(stage, case)
    }


def placements_of(study: Study, group: Group, step: Step) -> Sequence[tuple[str, Artifact, Artifact]]:
    """Id, placement and what is to be taken out of it, of each case on the template that a step made."""
    stage = stage_name("mean", group.name, step.number)
    shape = study.artifact(stage, COHORT, study.layout.mean_shape(group.name, step.number))
    return [(case, file, shape) for case, file in _placements(study, group, step.number).items()]


def placed(placement: Path, shape: Path) -> Placement:
    """Where a case lies on the template that was made of it."""
    return read_placement(placement).after(read_placement(shape))


@cache
def of_stage(kind: type[J], stage: str) -> type[J]:
    """The kind of job under the name of one stage: its records lie beside those of the other steps."""
    return type(kind.__name__, (kind,), {"stage": stage})
