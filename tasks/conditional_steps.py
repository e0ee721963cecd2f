"""Rounds of a conditional template: the effect of covariates, every case registered with regard to it, and again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import task

from covoxel.atlas import Placement, read_placement, write_placement
from covoxel.atlas.conditional import Design, Value, effect_of, read_design, read_effect, write_design, write_effect
from covoxel.atlas.conditional.build import next_mean, place_again, round_of
from covoxel.io import read_image, write_image
from tasks.atlas import group_of
from tasks.atlas_steps import CODE as OF_ATLAS
from tasks.atlas_steps import Read, core_settings, last_step, of_stage, placed, placements_of, stage_name
from tasks.conditional_covariates import Known, known_of
from tasks.facts import PlaceFacts, RoundFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.settings import TemplateSettings
from tasks.study import Study

NAME = "conditional"
CODE = (*OF_ATLAS, "tasks.conditional_steps", "tasks.conditional_covariates")


@dataclass(frozen=True)
class Cases:
    """Cases that take part, in an order that depends on their content alone.

    Parameters
    ----------
    images, placements
        By id, and where they were brought.
    shape
        What is to be taken out of each placement; None if nothing is.
    known
        Covariates, by id.
    """

    images: Mapping[str, Artifact]
    placements: Mapping[str, Artifact]
    shape: Artifact | None
    known: Known

    def inputs(self) -> dict[str, str]:
        """SHA-256 by name."""
        images = {f"image.{name}": file.sha256 for name, file in self.images.items()}
        placements = {f"placement.{name}": file.sha256 for name, file in self.placements.items()}
        return {**images, **placements} if self.shape is None else {"shape": self.shape.sha256, **images, **placements}

    def settled(self) -> Read[Placement]:
        """Placements, each read when it is asked for."""
        shape = self.shape
        return Read(self.placements, read_placement if shape is None else lambda path: placed(path, shape.path))


@dataclass(frozen=True)
class StartJob(Job):
    """Cases on a finished template, whose placements are to be regressed on their covariates."""

    stage = f"{NAME}-0"
    facts = RoundFacts
    code = CODE
    vital = False

    cases: Cases
    by: Sequence[str]
    degree: int

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: sha256 for name, sha256 in self.cases.inputs().items() if not name.startswith("image.")}

    def parameters(self) -> Mapping[str, Any]:
        """Covariates and settings the result depends on."""
        return {"known": _plain(self.cases.known), "by": list(self.by), "degree": self.degree}


@task(task_run_name="effect of covariates on a template", **TASK_OPTIONS)
@work
def start(job: StartJob) -> Made:
    """Write the effect and what its numbers mean; the facts are its row of the history."""
    design = Design.of(job.cases.known, job.by, degree=job.degree)
    effect = effect_of(job.cases.settled(), design.weights(job.cases.known))
    outputs = [job.layout.effect(NAME, 0), job.layout.design(NAME, 0)]
    write_effect(outputs[0], effect)
    write_design(outputs[1], design)
    row = round_of(0, None, effect, None, design.matrix(job.cases.known.values()))
    return Made(outputs, {"effect_mm": row.effect_mm, "change": None, "cases": len(job.cases.known)})


@dataclass(frozen=True)
class AgainJob(Job):
    """A case to be registered again with regard to its covariates.

    Parameters
    ----------
    image, fixed
        The case, and the template.
    before, shape
        Where it lay, and what was taken out of the template's shape since.
    effect, design
        Of the covariates.
    values
        Its covariates.
    round_
        From 1.
    """

    stage = "again"
    facts = PlaceFacts
    code = CODE

    image: Artifact
    fixed: Artifact
    before: Artifact
    shape: Artifact
    effect: Artifact
    design: Artifact
    values: Mapping[str, Value]
    round_: int
    settings: TemplateSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: getattr(self, name).sha256 for name in ("image", "fixed", "before", "shape", "effect", "design")}

    def parameters(self) -> Mapping[str, Any]:
        """Covariates and settings the result depends on."""
        placing = self.settings.building()
        for name in ("iterations", "tolerance", "sharpen"):
            placing.pop(name)
        return {**placing, "values": dict(self.values)}


@task(task_run_name="place {job.case} with regard to its covariates", **TASK_OPTIONS)
@work
def again(job: AgainJob) -> Made:
    """Write where the case lies on the template."""
    effect, _ = read_effect(job.effect.path)
    expected = effect.at(read_design(job.design.path).row(job.values))
    before = placed(job.before.path, job.shape.path)
    fixed, image = (read_image(file.path).to(job.device) for file in (job.fixed, job.image))
    found = place_again(fixed, image, before, expected, core_settings(job.settings))
    path = job.layout.placement(NAME, job.round_, job.case)
    write_placement(path, found)
    return Made([path], {"similarity": number(found.similarity)})


@dataclass(frozen=True)
class RoundJob(Job):
    """Cases that were registered again, of which the next template and effect are made."""

    stage = "round"
    facts = RoundFacts
    code = CODE
    vital = False

    cases: Cases
    fixed: Artifact
    effect: Artifact
    round_: int
    by: Sequence[str]
    settings: TemplateSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"fixed": self.fixed.sha256, "effect": self.effect.sha256, **self.cases.inputs()}

    def parameters(self) -> Mapping[str, Any]:
        """Covariates and settings the result depends on."""
        settings = self.settings.building()
        more = {"by": list(self.by), "degree": self.settings.conditional.degree}
        return {**{name: settings[name] for name in ("contrast", "sharpen")}, **more, "known": _plain(self.cases.known)}


@task(task_run_name="effect of covariates on a template, again", **TASK_OPTIONS)
@work
def again_mean(job: RoundJob) -> Made:
    """Write the next template, what was taken out of its shape, and the effect; the facts are a row of the history."""
    cases, settings = job.cases, core_settings(job.settings)
    design = Design.of(cases.known, job.by, degree=job.settings.conditional.degree)
    images, placements = Read(cases.images, read_image), cases.settled()
    mean = next_mean(list(cases.known), images, placements, read_image(job.fixed.path).to(job.device), settings)
    effect = effect_of(placements, design.weights(cases.known))
    layout, before = job.layout, read_effect(job.effect.path)[0]
    outputs = [layout.mean_image(NAME, job.round_), layout.mean_shape(NAME, job.round_)]
    outputs += [layout.effect(NAME, job.round_), layout.design(NAME, job.round_)]
    write_image(outputs[0], mean.image.to("cpu"))
    write_placement(outputs[1], mean.shape)
    write_effect(outputs[2], effect)
    write_design(outputs[3], design)
    row = round_of(job.round_, mean.facts, effect, before, design.matrix(cases.known.values()))
    facts = {name: number(v) if isinstance(v, float) else v for name, v in asdict(mean.facts).items()}
    return Made(outputs, {**facts, "effect_mm": row.effect_mm, "change": number(row.change)})


def start_jobs(study: Study) -> list[StartJob]:
    """The one job, if a template is asked for by covariates and was built."""
    settings = study.call.settings.template.conditional
    found = state_of(study, 0) if settings.by else None
    if found is None:
        return []
    return [StartJob(COHORT, study.call.output, "cpu", found[1], settings.by, settings.degree)]


def again_jobs(study: Study, round_: int) -> list[AgainJob]:
    """A job for each case that takes part in a round, from 1."""
    found, stage = state_of(study, round_ - 1), stage_of(round_ - 1)
    if found is None or study.record(stage, COHORT) is None:
        return []
    fixed, cases = found
    assert cases.shape is not None
    kind, layout = of_stage(AgainJob, place_stage_of(round_)), study.layout
    effect = study.artifact(stage, COHORT, layout.effect(NAME, round_ - 1))
    design = study.artifact(stage, COHORT, layout.design(NAME, round_ - 1))
    more: dict[str, Any] = {"effect": effect, "design": design, "settings": study.call.settings.template}
    return [
        kind(
            case,
            study.call.output,
            study.device,
            image=image,
            fixed=fixed,
            before=cases.placements[case],
            shape=cases.shape,
            values=cases.known[case],
            round_=round_,
            **more,
        )
        for case, image in cases.images.items()
    ]


def round_jobs(study: Study, round_: int) -> list[RoundJob]:
    """The one job that ends a round, from 1."""
    found, stage = state_of(study, round_ - 1), place_stage_of(round_)
    if found is None or not study.records.get(stage):
        return []
    fixed, before = found
    placements = {
        case: study.artifact(stage, case, study.layout.placement(NAME, round_, case))
        for case in before.images
        if study.record(stage, case)
    }
    effect = study.artifact(stage_of(round_ - 1), COHORT, study.layout.effect(NAME, round_ - 1))
    settings, kind = study.call.settings.template, of_stage(RoundJob, stage_of(round_))
    cases = _cases(study, placements, None, before.known)
    by = settings.conditional.by
    return [kind(COHORT, study.call.output, study.device, cases, fixed, effect, round_, by, settings=settings)]


def state_of(study: Study, round_: int) -> tuple[Artifact, Cases] | None:
    """Template after a round, and the cases on it; after round 0 as it was built. None if it did not come so far."""
    group, layout = group_of(study), study.layout
    step = last_step(study, group)
    if step is None:
        return None
    if round_ == 0:
        stage, name, number = stage_name("mean", group.name, step.number), group.name, step.number
        found = {case: file for case, file, _ in placements_of(study, group, step)}
    else:
        stage, name, number, places = stage_of(round_), NAME, round_, place_stage_of(round_)
        found = {
            case: study.artifact(places, case, layout.placement(NAME, round_, case))
            for case in study.records.get(places, {})
        }
    if study.record(stage, COHORT) is None:
        return None
    known, _ = known_of(study, group.cases)
    shape = study.artifact(stage, COHORT, layout.mean_shape(name, number))
    return study.artifact(stage, COHORT, layout.mean_image(name, number)), _cases(study, found, shape, known)


def stage_of(round_: int) -> str:
    """Name of the stage in which the effect of covariates is found after a round."""
    return f"{NAME}-{round_}"


def place_stage_of(round_: int) -> str:
    """Name of the stage in which the cases are registered in a round."""
    return f"{NAME}-place-{round_}"


def _cases(study: Study, placements: Mapping[str, Artifact], shape: Artifact | None, known: Known) -> Cases:
    """Those of which covariates are known, in the order of their images' content."""
    files = {
        case: study.artifact("preprocess", case, study.layout.preprocessed(case))
        for case in placements
        if case in known
    }
    images = dict(sorted(files.items(), key=lambda item: (item[1].sha256, item[0])))
    return Cases(images, {case: placements[case] for case in images}, shape, {case: known[case] for case in images})


def _plain(known: Known) -> dict[str, dict[str, Value]]:
    return {case: dict(row) for case, row in sorted(known.items())}
