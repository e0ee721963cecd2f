"""Within: the template of one subject half-way between the visits, and what a new visit changes in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task

from covoxel.io import read_image, read_transform, write_image, write_transform
from covoxel.longitudinal import Series, SeriesSettings, add_visits, build_series, levelled
from covoxel.manifest import Record, code_sha256
from covoxel.metrics import folding
from covoxel.spatial import Image, Transform
from tasks.facts import WithinFacts, read_record
from tasks.job import Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.settings import LongitudinalSettings
from tasks.study import Study
from tasks.subjects import subjects_of

STAGE = "within"
FIRST = "first"
"""Folder of what atlases are brought onto."""

LEAST_TO_UPDATE = 2
"""Visits that a template must have been built from to be updated: one alone is no middle."""


@dataclass(frozen=True)
class WithinJob(Job):
    """The visits of a subject; `case` is the subject's key.

    Parameters
    ----------
    visits
        Prepared images, by id.
    settings
        How they are brought together.
    earlier
        Record of the template there was, if it can be updated. It is no input: what was updated counts as done.
    """

    stage = STAGE
    facts = WithinFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.atlas.middle",
        "covoxel.atlas.placement",
        "covoxel.losses",
        "covoxel.preprocessing",
        "covoxel.registration",
        "covoxel.longitudinal.base",
        "covoxel.longitudinal.intensity",
        "covoxel.longitudinal.refinement",
        "covoxel.longitudinal.series",
        "tasks.within",
    )

    visits: Mapping[str, Artifact]
    settings: LongitudinalSettings
    earlier: Record | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {f"visit.{name}": item.sha256 for name, item in self.visits.items()}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.model_dump(mode="json", include={"update", "levels", "rounds", "update_rounds"})

    def place(self, name: str) -> Path:
        """A file of the subject."""
        return self.layout.series(self.case, name)

    def transform(self, visit: str, folder: str = "visits") -> Path:
        """From points of the template, as it is or as it was at first, to points of a visit."""
        return self.place(f"{folder}/{visit}_xfm.h5")


@task(task_run_name="template of {job.case}", **TASK_OPTIONS)
@work
def within(job: WithinJob) -> Made:
    """Write the template, the transform from it to each visit, and both as they were when the template was new."""
    images = {name: read_image(artifact.path) for name, artifact in job.visits.items()}
    settings = series_settings(job.settings)
    if job.earlier is None:
        series = build_series(images, settings)
        outputs = _write_first(job, series)
    else:
        series = add_visits(_read(job, job.earlier.facts["visits"]), images, settings)
        outputs = [job.output / path for path in job.earlier.outputs if Path(path).parent.name == FIRST]
    before = None if job.earlier is None else job.earlier.facts["visits"]
    outputs = list(dict.fromkeys([*outputs, *_write(job, series)]))
    facts = {"visits": sorted(images), "updated_from": before, "found": _facts(series, images, settings)}
    return Made(outputs, facts)


def series_settings(settings: LongitudinalSettings) -> SeriesSettings:
    """The settings of the core."""
    return SeriesSettings(levels=settings.levels, rounds=settings.rounds, update_rounds=settings.update_rounds)


def within_jobs(study: Study) -> list[WithinJob]:
    """A job for each subject."""
    settings = study.call.settings.longitudinal
    jobs = []
    for subject in subjects_of(study):
        visits = {name: study.artifact("visit", name, study.layout.visit(name)) for name in subject.ids}
        plain = WithinJob(subject.key, study.call.output, "cpu", visits, settings)
        jobs.append(WithinJob(subject.key, study.call.output, "cpu", visits, settings, _earlier(study, plain)))
    return jobs


def _earlier(study: Study, job: WithinJob) -> Record | None:
    """Record of the template of some of these visits, made alike and still there; None if all is to be done anew."""
    record = read_record(study.manifest, STAGE, job.case, WithinFacts)
    if record is None or not job.settings.update or dict(record.settings) != dict(job.parameters()):
        return None
    now, then = job.inputs(), record.inputs
    same_code = record.code == code_sha256(*WithinJob.code)
    grown = len(then) < len(now) <= 2 * len(then) and all(now.get(name) == digest for name, digest in then.items())
    if len(then) < LEAST_TO_UPDATE or not grown or not same_code:
        return None
    return study.manifest.fresh(STAGE, job.case, record.fingerprint)


def _read(job: WithinJob, visits: list[str]) -> Series:
    template = read_image(job.place("template.nii.gz"))
    moved = job.place("first_from_template_xfm.h5")
    return Series(
        template,
        {name: read_transform(job.transform(name), template.grid) for name in visits},
        read_transform(moved, template.grid) if moved.is_file() else None,
    )


def _write(job: WithinJob, series: Series) -> list[Path]:
    outputs = [job.place("template.nii.gz")]
    write_image(outputs[0], series.template)
    for name, transform in series.transforms.items():
        outputs.append(job.transform(name))
        write_transform(outputs[-1], transform)
    moved = job.place("first_from_template_xfm.h5")
    if series.first_from_template is None:
        moved.unlink(missing_ok=True)
        return outputs
    write_transform(moved, series.first_from_template)
    return [*outputs, moved]


def _write_first(job: WithinJob, series: Series) -> list[Path]:
    """What atlases are brought onto: it stays as it is when visits are added."""
    outputs = [job.place(f"{FIRST}/template.nii.gz")]
    write_image(outputs[0], series.template)
    for name, transform in series.transforms.items():
        outputs.append(job.transform(name, FIRST))
        write_transform(outputs[-1], transform)
    return outputs


def _facts(series: Series, images: Mapping[str, Image], settings: SeriesSettings) -> dict[str, dict[str, Any]]:
    """How well each visit lies on the template, and how far it was moved."""
    facts = {}
    for name, transform in series.transforms.items():
        there = levelled(series, images, name, settings).data.double()
        template = series.template.data.double()
        facts[name] = {
            "likeness": number(float(np.corrcoef(there.flatten().numpy(), template.flatten().numpy())[0, 1])),
            "folded_percent": number(folding(transform).percent),
            "displacement_mm": number(_size(transform)),
        }
    return facts


def _size(transform: Transform) -> float:
    """Root mean square of the displacement, mm."""
    field = transform.displacement_mm
    return 0.0 if field is None else float(field.square().sum(0).mean().sqrt())
