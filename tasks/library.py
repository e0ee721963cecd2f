"""Library: several templates made of the one that the atlases share, each of those that are bent alike."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from prefect import Task, task

from covoxel.atlas import Step, read_placement
from covoxel.atlas.library import apart_mm, expected_mm, groups_of, usual_likeness
from covoxel.io import read_image
from tasks import settings as of_user
from tasks.atlas_steps import (
    CODE,
    Group,
    MeanJob,
    Read,
    core_settings,
    fixed_of,
    last_step,
    mean,
    note_left_out,
    of_stage,
    placed,
    placements_of,
    stage_name,
)
from tasks.facts import LibraryFacts, UsualFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.study import Study

GROUP = "atlases"
"""The group of all atlases of a few-shot run."""

STAGE, USUAL = f"{GROUP}-library", f"{GROUP}-likeness"


@dataclass(frozen=True)
class LibraryJob(Job):
    """Atlases on the template that they share, to be grouped.

    Parameters
    ----------
    placements
        Where each lies, by id, in an order that depends on their content alone.
    count
        Groups at most.
    """

    stage = STAGE
    facts = LibraryFacts
    code = (*CODE, "tasks.library")

    placements: Mapping[str, Artifact]
    count: int

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: file.sha256 for name, file in self.placements.items()}

    def parameters(self) -> Mapping[str, Any]:
        """What else the result depends on."""
        return {"count": self.count}


@task(task_run_name="groups of the atlases", **TASK_OPTIONS)
@work
def library(job: LibraryJob) -> Made:
    """Group the atlases by how they are bent; the facts name those of each template."""
    placements = Read(job.placements, read_placement)
    names, distances = list(placements), apart_mm(placements)
    groups = groups_of(distances, job.count)
    return Made(
        [],
        {
            "templates": [[names[index] for index in group] for group in groups],
            "expected_mm": number(expected_mm(distances, groups)),
            "expected_of_one_mm": number(expected_mm(distances, [range(len(names))])),
        },
    )


@dataclass(frozen=True)
class TemplateFiles:
    """A template of a library.

    Parameters
    ----------
    image, shape
        The template, and what was taken out of its shape: a placement on the shared template, after it, is one on
        this template. So an atlas of any group comes onto it without a registration.
    atlases
        Ids of those of which it was made.
    """

    image: Artifact
    shape: Artifact
    atlases: tuple[str, ...]


@dataclass(frozen=True)
class UsualJob(Job):
    """Templates, and the atlases that are to be compared with all of them.

    Parameters
    ----------
    images, placements
        Preprocessed images, and where each lay on the shared template onto which it was brought last, by id.
    shape
        What was then taken out of that template's shape.
    templates
        Those there are.
    settings
        By which they were built.
    """

    stage = USUAL
    facts = UsualFacts
    code = (*CODE, "tasks.library")

    images: Mapping[str, Artifact]
    placements: Mapping[str, Artifact]
    shape: Artifact
    templates: Sequence[TemplateFiles]
    settings: of_user.TemplateSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        images = {f"image.{name}": file.sha256 for name, file in self.images.items()}
        placements = {f"placement.{name}": file.sha256 for name, file in self.placements.items()}
        templates = {f"template.{index}": each.image.sha256 for index, each in enumerate(self.templates, 1)}
        return {"shape": self.shape.sha256, **images, **placements, **templates}

    def parameters(self) -> Mapping[str, Any]:
        """What else the result depends on."""
        return self.settings.model_dump(mode="json", include={"contrast"})


@task(task_run_name="how like the templates the atlases are", **TASK_OPTIONS)
@work
def usual(job: UsualJob) -> Made:
    """Compare all atlases with all templates; the facts have the mean correlation with each."""
    images = Read(job.images, read_image)
    placements = Read(job.placements, lambda path: placed(path, job.shape.path))
    templates = [read_image(template.image.path).to(job.device) for template in job.templates]
    return Made([], {"likeness": usual_likeness(images, placements, templates, core_settings(job.settings))})


Stage = tuple[str, Task[[Any], Any], Callable[[Study], Sequence[Job]]]


def group_of_atlases(study: Study) -> Group:
    """The atlases, sound so far, of which the template is made."""
    return Group(GROUP, tuple(case.id for case in study.cohort.atlases))


def library_stages(study: Study) -> list[Stage]:
    """Stages in which one template becomes several, in turn: name, task, and what finds the jobs; none for one."""
    if not study.has_library:
        return []
    templates = range(study.call.settings.template.count)
    return [
        (STAGE, library, library_jobs),
        *((f"{GROUP}-template-{index + 1}", mean, partial(_mean_jobs, index=index)) for index in templates),
        (USUAL, usual, usual_jobs),
    ]


def library_jobs(study: Study) -> list[LibraryJob]:
    """The one job, if the atlases have a template."""
    group = group_of_atlases(study)
    step = last_step(study, group)
    if step is None:
        return []
    note_left_out(study, group, step.number)
    placements = {case: file for case, file, _ in placements_of(study, group, step)}
    return [LibraryJob(COHORT, study.call.output, "cpu", placements, study.call.settings.template.count)]


def templates_of(study: Study) -> list[TemplateFiles]:
    """The templates through which atlases come onto cases, the shared one where there is no other."""
    group = group_of_atlases(study)
    step = last_step(study, group)
    if step is None:
        return []
    named = _groups(study)
    if len(named) < 2:
        return [_template(study, stage_name("mean", GROUP, step.number), group, step)]
    groups = [_group(index, atlases) for index, atlases in enumerate(named)]
    return [
        _template(study, f"{GROUP}-template-{index + 1}", group, step)
        for index, group in enumerate(groups)
        if study.record(f"{GROUP}-template-{index + 1}", COHORT)
    ]


def usual_jobs(study: Study) -> list[UsualJob]:
    """The one job, where there are several templates."""
    templates, group = templates_of(study), group_of_atlases(study)
    step = last_step(study, group)
    if step is None or len(templates) < 2:
        return []
    found, layout = placements_of(study, group, step), study.layout
    return [
        UsualJob(
            COHORT,
            study.call.output,
            study.device,
            images={case: study.artifact("preprocess", case, layout.preprocessed(case)) for case, _, _ in found},
            placements={case: file for case, file, _ in found},
            shape=found[0][2],
            templates=templates,
            settings=study.call.settings.template,
        )
    ]


def usual_of(study: Study) -> list[float]:
    """Mean correlation of the atlases with each template, where there are several."""
    record = study.record(USUAL, COHORT)
    return [] if record is None else list(record.facts["likeness"])


def library_notes(study: Study) -> list[str]:
    """What a reader should know of the templates, a sentence; nothing where there is one or none."""
    groups = _groups(study)
    if not study.has_library or not groups:
        return []
    if len(groups) < 2:
        return ["The atlases have one template: no groups of them are so alike that several would be nearer to a case."]
    records = [study.record("register", case.id) for case in study.fixed]
    served = Counter(record.facts.get("template") for record in records if record)
    named = "; ".join(
        f"template {index} of {', '.join(sorted(atlases))}, cases served: {served[index]}"
        for index, atlases in enumerate(groups, 1)
    )
    return [f"Each case went through the closest to it of {len(groups)} templates ({named})."]


def _mean_jobs(study: Study, index: int) -> list[MeanJob]:
    """The mean of the atlases of one group, as they lie on the shared template; none of a group that is not there."""
    shared, named = group_of_atlases(study), _groups(study)
    step = last_step(study, shared)
    if step is None or len(named) < 2 or index >= len(named):
        return []
    fixed = fixed_of(study, shared, step)
    assert fixed is not None, "the shared template was made by its last step"
    group = _group(index, named[index])
    found = {case: file for case, file, _ in placements_of(study, shared, step) if case in group.cases}
    images = {case: study.artifact("preprocess", case, study.layout.preprocessed(case)) for case in found}
    kind = of_stage(MeanJob, f"{GROUP}-template-{index + 1}")
    settings = study.call.settings.template
    return [kind(COHORT, study.call.output, study.device, images, found, fixed, step, group.name, settings=settings)]


def _groups(study: Study) -> list[list[str]]:
    """Ids of the atlases of each template."""
    record = study.record(STAGE, COHORT)
    return [] if record is None else list(record.facts["templates"])


def _group(index: int, atlases: Sequence[str]) -> Group:
    return Group(f"{GROUP}-{index + 1}", tuple(atlases))


def _template(study: Study, stage: str, group: Group, step: Step) -> TemplateFiles:
    layout = study.layout
    return TemplateFiles(
        study.artifact(stage, COHORT, layout.mean_image(group.name, step.number)),
        study.artifact(stage, COHORT, layout.mean_shape(group.name, step.number)),
        group.cases,
    )
