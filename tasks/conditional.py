"""Conditional template: the template at each value that is asked for, volumes, and how they follow the covariates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from prefect import Task, task

from covoxel.atlas import label_probabilities
from covoxel.atlas.conditional import (
    ConditionalTemplate,
    Value,
    case_volumes,
    read_design,
    read_effect,
    trends,
    write_design,
    write_effect,
)
from covoxel.atlas.conditional.build import brightness_of
from covoxel.atlas.conditional.template import At
from covoxel.io import read_image, read_labels, write_bytes, write_image, write_labels, write_table
from covoxel.report import Guard
from covoxel.report.conditional import VolumePlot, templates_figure, volumes_figure
from covoxel.spatial import Image
from tasks.atlas import atlas_summary, group_of, write_cases
from tasks.atlas_steps import Read, core_settings
from tasks.call import NothingDoneError
from tasks.conditional_covariates import asked_columns, asked_values, known_of
from tasks.conditional_steps import (
    CODE,
    NAME,
    Cases,
    again,
    again_jobs,
    again_mean,
    place_stage_of,
    round_jobs,
    stage_of,
    start,
    start_jobs,
    state_of,
)
from tasks.facts import ConditionalFacts
from tasks.job import COHORT, Artifact, Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.settings import TemplateSettings
from tasks.study import Study
from tasks.summary import Summary, status_of, structure_name

STAGE = f"{NAME}-templates"

HISTORY = ("round", "cases", "similarity", "effect_mm", "change", "ndv_percent")

Jobs = Callable[[Study], Sequence[Job]]


@dataclass(frozen=True)
class ConditionalJob(Job):
    """Cases after the last round, and what is to be written of the template.

    Parameters
    ----------
    fixed
        The template of the middle of the cohort.
    cases
        That made it.
    labels
        Label maps of those of them that have one, by id.
    effect, design
        Of the covariates.
    names
        Of structures by label.
    history
        Rows, a round each.
    """

    stage = STAGE
    facts = ConditionalFacts
    code = (*CODE, "covoxel.report.conditional", "tasks.conditional")
    vital = False

    fixed: Artifact
    cases: Cases
    labels: Mapping[str, Artifact]
    effect: Artifact
    design: Artifact
    names: Mapping[int, str]
    history: Sequence[Mapping[str, Any]]
    settings: TemplateSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        labels = {f"labels.{name}": file.sha256 for name, file in self.labels.items()}
        own = {"fixed": self.fixed.sha256, "effect": self.effect.sha256, "design": self.design.sha256}
        return {**own, **labels, **self.cases.inputs()}

    def parameters(self) -> Mapping[str, Any]:
        """What else the result depends on."""
        return {
            "known": {case: dict(row) for case, row in sorted(self.cases.known.items())},
            "at": asked_columns(self.settings.conditional),
            "contrast": self.settings.contrast,
            "names": {str(label): name for label, name in self.names.items()},
            "history": list(self.history),
        }


@task(task_run_name="templates by covariates", **TASK_OPTIONS)
@work
def templates(job: ConditionalJob) -> Made:
    """Write the template at each value, its labels, the tables of volumes and of their trends, and the figures."""
    template = _template_of(job)
    asked = asked_values(template.design, asked_columns(job.settings.conditional))
    outputs, rows = _write_template(job, template), list[dict[str, Any]]()
    shown: dict[str, tuple[Image, Image | None]] = {}
    middle = template.at({}).volumes_mm3(template.labels)
    for name, values in asked.items():
        at = template.at(values)
        likeliest = None if at.probabilities is None else _likeliest(at.probabilities, template)
        shown[" ".join(name.replace("_", " ").split())] = at.image, likeliest
        outputs += _write_at(job, template, name, at, likeliest)
        about = {"template": name, **{key: values.get(key) for key in template.design.covariates}}
        beyond = {"extrapolated": template.design.outside(values) is not None}
        rows += [about | row | beyond for row in _volume_rows(job, at.volumes_mm3(template.labels), middle)]
    outputs.append(job.layout.conditional("templates.png"))
    guard = Guard()
    write_bytes(outputs[-1], guard.picture("The templates", lambda: templates_figure(shown), "PNG"))
    remarks = [remark for values in asked.values() if (remark := template.design.outside(values))]
    facts: dict[str, Any] = {"templates": list(asked), "remarks": list(dict.fromkeys(remarks)), "trends": []}
    if template.labels:
        more, told = _tables(job, template, rows, guard)
        outputs += more
        facts["trends"] = told
    return Made(outputs, facts, guard.tracebacks)


def _write_template(job: ConditionalJob, template: ConditionalTemplate) -> list[Path]:
    """The template of the middle, the effect, the design and the history; their files."""
    names = ("template.nii.gz", "effect.npz", "design.json", "history.tsv")
    files = [job.layout.conditional(name) for name in names]
    write_image(files[0], template.image)
    write_effect(files[1], template.effect, template.brightness)
    write_design(files[2], template.design)
    write_table(files[3], pd.DataFrame(list(job.history), columns=list(HISTORY)))
    return files


def _write_at(
    job: ConditionalJob, template: ConditionalTemplate, name: str, at: At, likeliest: Image | None
) -> list[Path]:
    """The template at one of the values, and its labels where there are any; their files."""
    file = job.layout.conditional
    outputs = [file(f"{name}_template.nii.gz")]
    write_image(outputs[0], at.image)
    if likeliest is None or at.probabilities is None:
        return outputs
    outputs.append(file(f"{name}_dseg.nii.gz"))
    write_labels(outputs[-1], likeliest)
    for label, probability in zip(template.labels, at.probabilities, strict=True):
        if label:
            outputs.append(file(f"{name}_label-{label}_probseg.nii.gz"))
            write_image(outputs[-1], Image(probability, template.image.grid))
    return outputs


def _volume_rows(
    job: ConditionalJob, volumes_mm3: Mapping[int, float], middle: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Columns of each structure's volume, beside that of the middle."""
    return [
        {
            "label": label,
            "structure": job.names.get(label, str(label)),
            "volume_mm3": volume,
            "percent_of_middle": 100 * volume / middle[label] if middle[label] > 0 else None,
        }
        for label, volume in volumes_mm3.items()
    ]


def _template_of(job: ConditionalJob) -> ConditionalTemplate:
    image, design = read_image(job.fixed.path), read_design(job.design.path)
    effect, _ = read_effect(job.effect.path)
    weights, placements = design.weights(job.cases.known), job.cases.settled()
    images = Read(job.cases.images, read_image)
    brightness = brightness_of(images, placements, image, weights, core_settings(job.settings))
    if not job.labels:
        return ConditionalTemplate(image, design, effect, brightness)
    maps, found = Read(job.labels, read_labels), {0}
    for name in maps:
        found |= set(torch.unique(maps[name].data).tolist())
    values = tuple(sorted(int(value) for value in found))
    return ConditionalTemplate(image, design, effect, brightness, values, label_probabilities(maps, placements, values))


def _likeliest(probabilities: torch.Tensor, template: ConditionalTemplate) -> Image:
    return Image(torch.tensor(template.labels)[probabilities.argmax(0)], template.image.grid)


def _tables(
    job: ConditionalJob, template: ConditionalTemplate, rows: Sequence[Mapping[str, Any]], guard: Guard
) -> tuple[list[Any], list[str]]:
    """Tables and figure of the volumes; their files, and the trends in words."""
    file, placements = job.layout.conditional, job.cases.settled()
    assert template.probabilities is not None
    volumes = {
        name: case_volumes(template.probabilities, template.labels, placements[name]) for name in job.cases.known
    }
    found = trends(template.design, job.cases.known, volumes)
    outputs = [file("volumes.tsv"), file("trends.tsv"), file("volumes.png")]
    write_table(outputs[0], pd.DataFrame(list(rows)))
    columns = ["label", "structure", "covariate", "level", "against", "percent", "low", "high"]
    named = [{**vars(trend), "structure": job.names.get(trend.label, str(trend.label))} for trend in found]
    write_table(outputs[1], pd.DataFrame(named, columns=columns))
    drawn = guard.picture("The volumes", lambda: volumes_figure(_plots(job, template, volumes)), "PNG")
    write_bytes(outputs[2], drawn)
    told = [
        f"{row['structure']}: {row['percent']:+.2f} % ({row['low']:+.2f} to {row['high']:+.2f}) "
        + (
            f"for {row['covariate']} {row['level']} against {row['against']}"
            if row["level"]
            else f"for each unit of {row['covariate']}"
        )
        for row in named
    ]
    return outputs, told


def _plots(
    job: ConditionalJob, template: ConditionalTemplate, volumes: Mapping[str, Mapping[int, float]]
) -> list[VolumePlot]:
    plots = []
    for name in template.design.covariates:
        at: list[Value] = list(template.design.levels.get(name, ()))
        if name in template.design.scales:
            scale = template.design.scales[name]
            at = [scale.low + step * (scale.high - scale.low) / 8 for step in range(9)]
        lines = [(value, template.at({name: value}).volumes_mm3(template.labels)) for value in at]
        plots += [
            VolumePlot(
                label,
                job.names.get(label, str(label)),
                name,
                [(row[name], volumes[case][label]) for case, row in job.cases.known.items()],
                [(value, of[label]) for value, of in lines],
            )
            for label in template.labels
            if label
        ]
    return plots


def templates_jobs(study: Study) -> list[ConditionalJob]:
    """The one job, if the rounds were done."""
    settings, layout = study.call.settings.template, study.layout
    last = settings.conditional.rounds
    found = state_of(study, last) if settings.conditional.by else None
    if found is None or study.record(stage_of(last), COHORT) is None:
        return []
    fixed, cases = found
    labelled = {case.id for case in study.atlases}
    labels = {
        case: study.artifact("preprocess", case, layout.preprocessed_labels(case))
        for case in cases.known
        if case in labelled
    }
    names = {label: structure_name(study, label) for label in sorted(study.cohort.label_names)}
    effect, design = (study.artifact(stage_of(last), COHORT, of(NAME, last)) for of in (layout.effect, layout.design))
    return [
        ConditionalJob(
            COHORT, study.call.output, "cpu", fixed, cases, labels, effect, design, names, _history(study), settings
        )
    ]


def conditional_stages(study: Study) -> list[tuple[str, Task[[Any], Any], Jobs]]:
    """Stages of a template by covariates, in turn: name, task, and what finds the jobs; none if none is asked for."""
    settings = study.call.settings.template.conditional
    if not settings.by:
        return []
    stages: list[tuple[str, Task[[Any], Any], Jobs]] = [(stage_of(0), start, start_jobs)]
    for round_ in range(1, settings.rounds + 1):
        stages.append((place_stage_of(round_), again, partial(again_jobs, round_=round_)))
        stages.append((stage_of(round_), again_mean, partial(round_jobs, round_=round_)))
    return [*stages, (STAGE, templates, templates_jobs)]


def require_conditional(study: Study) -> None:
    """Refuse to end well without a template by covariates where one is asked for.

    Raises
    ------
    NothingDoneError
        If there is none.
    """
    by = study.call.settings.template.conditional.by
    if by and not study.records.get(STAGE):
        why = next((reason for stage, reason in study.trouble.items() if stage.startswith(NAME)), "no case took part")
        raise NothingDoneError(f"the template was built, but none by {', '.join(by)}: {why}")


def finish_atlas(study: Study) -> Summary:
    """Write the tables of cases; how the building of a template, and of one by covariates, ended."""
    write_cases(study)
    summary, settings = atlas_summary(study), study.call.settings.template.conditional
    record = study.record(STAGE, COHORT)
    if not settings.by or record is None:
        return summary
    missing = _write_cases(study)
    lines = [f"template by {', '.join(settings.by)}: {study.layout.conditional('templates.png')}"]
    lines += [f"left out of it: {case}, {reason}" for case, reason in missing.items()]
    lines += [str(line) for line in (*record.facts["trends"], *record.facts["remarks"])]
    return replace(summary, training=(*summary.training, *lines))


def _write_cases(study: Study) -> dict[str, str]:
    """Write `atlas/conditional/cases.tsv`; why sound cases took no part, by id."""
    cases, by = group_of(study).cases, study.call.settings.template.conditional.by
    known, missing = known_of(study, cases)
    rows = []
    for case in cases:
        status, reason = status_of(study, case)
        if status == "done" and case in missing:
            status, reason = "left out", missing[case]
        rows.append(
            {"id": case, "status": status, "reason": reason or None, **{n: known.get(case, {}).get(n) for n in by}}
        )
    write_table(study.layout.conditional("cases.tsv"), pd.DataFrame(rows, columns=["id", "status", "reason", *by]))
    return {case: missing[case] for case in cases if case in missing and status_of(study, case)[0] == "done"}


def _history(study: Study) -> list[dict[str, Any]]:
    """Rows of the history, a round each."""
    rows = []
    for round_ in range(study.call.settings.template.conditional.rounds + 1):
        record = study.record(stage_of(round_), COHORT)
        if record:
            rows.append({"round": round_, **{name: record.facts.get(name) for name in HISTORY[1:]}})
    return rows
