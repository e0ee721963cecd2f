"""Atlas: the template that was built, its label probabilities, its history, and the transforms of each case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from prefect import Task, task

from covoxel.atlas import Step, label_probabilities
from covoxel.io import read_image, read_labels, write_bytes, write_image, write_labels, write_table, write_transform
from covoxel.metrics import folding
from covoxel.report import Guard, case_figures
from covoxel.report.history import history_figure
from covoxel.spatial import Image
from tasks.atlas_steps import (
    CODE,
    Group,
    Read,
    core_settings,
    last_step,
    mean,
    mean_jobs,
    note_left_out,
    place,
    place_jobs,
    placed,
    placements_of,
    reference,
    reference_jobs,
    stage_name,
)
from tasks.call import NothingDoneError
from tasks.facts import AtlasLabelFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.study import Study
from tasks.summary import Summary, status_of, summary_of

GROUP = "atlas"
"""The group of `build-atlas`."""

STAGE, CARRY = "atlas", "carry"

HISTORY = ("number", "kind", "cases", "similarity", "displacement_mm", "drift_mm", "ndv_percent", "change")


@dataclass(frozen=True)
class AtlasJob(Job):
    """A finished template.

    Parameters
    ----------
    template
        Image that the last step made.
    labels
        Label maps of the cases that have one, by id.
    placements, shape
        Of these cases on the template onto which they were brought, and what was taken out of its shape.
    history
        Rows, a step each.
    """

    stage = STAGE
    facts = AtlasLabelFacts
    code = (*CODE, "covoxel.report.figures", "covoxel.report.case", "covoxel.report.history", "tasks.atlas")

    template: Artifact
    labels: Mapping[str, Artifact]
    placements: Mapping[str, Artifact]
    shape: Artifact
    history: Sequence[Mapping[str, Any]]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        labels = {f"labels.{name}": file.sha256 for name, file in self.labels.items()}
        placements = {f"placement.{name}": self.placements[name].sha256 for name in self.labels}
        return {"template": self.template.sha256, "shape": self.shape.sha256, **labels, **placements}

    def parameters(self) -> Mapping[str, Any]:
        """What else the result depends on."""
        return {"history": list(self.history)}


@task(task_run_name="atlas", **TASK_OPTIONS)
@work
def atlas(job: AtlasJob) -> Made:
    """Write the template, its history, and, where cases have labels, their probabilities and the likeliest ones."""
    layout, template = job.layout, read_image(job.template.path)
    outputs = [layout.atlas("template.nii.gz"), layout.atlas("history.tsv"), layout.atlas("history.png")]
    write_image(outputs[0], template)
    write_table(outputs[1], pd.DataFrame(list(job.history), columns=list(HISTORY)))
    guard = Guard()
    write_bytes(outputs[2], guard.picture("The history", lambda: history_figure(job.history), "PNG"))
    values: list[int] = []
    likeliest = Image(torch.zeros(template.grid.shape, dtype=torch.int64), template.grid)
    if job.labels:
        values, probabilities = _probabilities(job)
        likeliest = Image(torch.tensor(values)[probabilities.argmax(0)], template.grid)
        for value, probability in zip(values, probabilities, strict=True):
            if value != 0:
                outputs.append(layout.label_probability(value))
                write_image(outputs[-1], Image(probability, template.grid))
        outputs.append(layout.atlas("dseg.nii.gz"))
        write_labels(outputs[-1], likeliest)
    outputs.append(layout.atlas("template.webp"))
    picture = guard.picture("The template", lambda: case_figures(template, likeliest)["overlay"], "WEBP")
    write_bytes(outputs[-1], picture)
    facts = {"labels": [value for value in values if value], "labelled": sorted(job.labels)}
    return Made(outputs, facts, guard.tracebacks)


@dataclass(frozen=True)
class CarryJob(Job):
    """A case on the finished template.

    Parameters
    ----------
    image
        Its preprocessed image.
    placement, shape
        Where it lay on the template onto which it was brought, and what was taken out of its shape.
    """

    stage = CARRY
    code = (*CODE, "tasks.atlas")

    image: Artifact
    placement: Artifact
    shape: Artifact

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"image": self.image.sha256, "placement": self.placement.sha256, "shape": self.shape.sha256}


@task(task_run_name="transforms of {job.case}", **TASK_OPTIONS)
@work
def carry(job: CarryJob) -> Made:
    """Write the transforms that resample the case onto the template, and the template onto the case."""
    placement = placed(job.placement.path, job.shape.path)
    onto = placement.transform()
    outputs = [job.layout.on_atlas(job.case), job.layout.from_atlas(job.case)]
    write_transform(outputs[0], onto)
    write_transform(outputs[1], placement.inverse(read_image(job.image.path).grid))
    regularity = folding(onto)
    facts = {
        "similarity": number(placement.similarity),
        "folded_percent": number(regularity.percent),
        "sd_log_jacobian": number(regularity.sd_log_jacobian),
    }
    return Made(outputs, facts)


def group_of(study: Study) -> Group:
    """The cases of this run, with those whose labels may be used among them."""
    chosen = {case.id for case in study.selected}
    return Group(GROUP, tuple(case.id for case in study.named if case.id in chosen))


def atlas_jobs(study: Study) -> list[AtlasJob]:
    """The one job, if a template was made."""
    group, layout = group_of(study), study.layout
    step = last_step(study, group)
    if step is None:
        return []
    note_left_out(study, group, step.number)
    stage = stage_name("mean", group.name, step.number)
    found = {case: file for case, file, _ in placements_of(study, group, step)}
    labelled = [case.id for case in study.atlases if case.id in found]
    # In the order of the placements, which depends on the content of images alone.
    labels = {
        case: study.artifact("preprocess", case, layout.preprocessed_labels(case)) for case in found if case in labelled
    }
    shape = study.artifact(stage, COHORT, layout.mean_shape(group.name, step.number))
    template = study.artifact(stage, COHORT, layout.mean_image(group.name, step.number))
    placements = {case: found[case] for case in labels}
    return [AtlasJob(COHORT, study.call.output, "cpu", template, labels, placements, shape, history_of(study, group))]


def carry_jobs(study: Study) -> list[CarryJob]:
    """A job for each case that takes part in the template."""
    group = group_of(study)
    step = last_step(study, group)
    if step is None:
        return []
    return [
        CarryJob(
            case,
            study.call.output,
            "cpu",
            image=study.artifact("preprocess", case, study.layout.preprocessed(case)),
            placement=placement,
            shape=shape,
        )
        for case, placement, shape in placements_of(study, group, step)
    ]


def history_of(study: Study, group: Group) -> list[dict[str, Any]]:
    """Rows of the history of a group, a step each."""
    records = [
        study.record(stage_name("mean", group.name, step.number), COHORT)
        for step in core_settings(study.call.settings.template).steps
    ]
    return [{name: record.facts[name] for name in HISTORY} for record in records if record]


Stage = tuple[str, Task[[Any], Any], Callable[[Study], Sequence[Job]]]


def steps_of(study: Study, group: Group) -> list[Stage]:
    """Stages in which a template of a group is made, in turn: name, task, and what finds the jobs.

    A template that has converged leaves nothing to do for the stages after it.
    """
    stages: list[Stage] = [(f"{group.name}-reference", reference, partial(reference_jobs, group=group))]
    for step in core_settings(study.call.settings.template).steps:
        stages.append((stage_name("place", group.name, step.number), place, partial(_places, group=group, step=step)))
        stages.append((stage_name("mean", group.name, step.number), mean, partial(mean_jobs, group=group, step=step)))
    return stages


def _places(study: Study, group: Group, step: Step) -> Sequence[Job]:
    if step.number:
        note_left_out(study, group, step.number - 1)
    return place_jobs(study, group, step)


def require_template(study: Study) -> None:
    """Refuse to end well without a template.

    Raises
    ------
    NothingDoneError
        If too few cases were fit for it, or it could not be begun.
    """
    if not study.records.get(STAGE):
        why = next((reason for stage, reason in study.trouble.items() if stage.startswith(GROUP)), None)
        raise NothingDoneError(f"no template was built: {why or 'fewer than two cases are fit for one'}")


def write_cases(study: Study) -> None:
    """Write `atlas/cases.tsv`: what became of each case."""
    rows = []
    for case in group_of(study).cases:
        status, reason = status_of(study, case)
        record = study.record(CARRY, case)
        facts = record.facts if record else {}
        rows.append({"id": case, "status": status, "reason": reason or None, **{n: facts.get(n) for n in _FACTS}})
    write_table(study.layout.atlas("cases.tsv"), pd.DataFrame(rows, columns=["id", "status", "reason", *_FACTS]))


def atlas_summary(study: Study) -> Summary:
    """How the building of a template ended."""
    rows = history_of(study, group_of(study))
    last = rows[-1]
    lines = [
        f"template of {last['cases']} cases after {len(rows)} steps; mean correlation {last['similarity']:.3f}, "
        f"largest non-diffeomorphic volume {last['ndv_percent']:.2g} %"
    ]
    if last["change"] is not None:
        lines.append(f"the last step changed it by {100 * last['change']:.2g} % of its standard deviation")
    return replace(summary_of(study), training=(*lines, f"template: {study.layout.atlas('template.nii.gz')}"))


_FACTS = ("similarity", "folded_percent", "sd_log_jacobian")


def _probabilities(job: AtlasJob) -> tuple[list[int], torch.Tensor]:
    """Label values, background first, and their probabilities on the template."""
    maps = Read(job.labels, read_labels)
    found = {0}
    for name in maps:
        found |= set(torch.unique(maps[name].data).tolist())
    values = sorted(int(value) for value in found)
    placements = Read(job.placements, lambda path: placed(path, job.shape.path))
    return values, label_probabilities(maps, placements, values)
