"""Follow: every visit of a subject segmented on its own grid, and the volume of each structure at each visit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from prefect import task
from torch import Tensor

from covoxel.fusion.base import fused_of
from covoxel.io import read_image, read_transform, write_bytes, write_image
from covoxel.longitudinal import (
    Series,
    SeriesSettings,
    carried,
    jacobian_volumes,
    levelled,
    log_jacobian,
    mean_probabilities,
    network_probabilities,
    probable_volumes,
    visit_probabilities,
)
from covoxel.manifest import Record
from covoxel.report import Guard, change_map
from covoxel.spatial import Image, sample
from data_catalog.files import load_image
from tasks.facts import FollowFacts, read_record
from tasks.job import Artifact, Job, Made, work
from tasks.label_template import STAGE as LABELS
from tasks.label_template import probability_path
from tasks.options import TASK_OPTIONS
from tasks.results import result_facts, write_result
from tasks.study import Study
from tasks.subjects import Subject, subjects_of
from tasks.visit_network import VisitNetwork, visit_network
from tasks.within import STAGE as WITHIN

STAGE = "follow"
BY_LABELS, BY_JACOBIAN = "labels", "jacobian"


@dataclass(frozen=True)
class VisitFiles:
    """What is read of a visit: the image as it came, as prepared, and the transform from the template to it."""

    native: Artifact
    image: Artifact
    transform: Artifact


@dataclass(frozen=True)
class FollowJob(Job):
    """A subject; `case` is the subject's key.

    Parameters
    ----------
    template
        Of the subject.
    moved
        From points of the template to points of the first one, whose labels are known; None where it is the first.
    visits
        By id.
    labels
        Probability of each label in the first template, by value.
    network
        That has a say in the labels of each visit, beside those that were fused; None without one.
    span
        Ids of the first and the last visit with a date, between which the map of change is drawn.
    earlier
        Volumes that were measured before; no input, but what the drift is told against.
    """

    stage = STAGE
    facts = FollowFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.fusion",
        "covoxel.metrics.folding",
        "covoxel.metrics.volumes",
        "covoxel.longitudinal.change",
        "covoxel.longitudinal.evidence",
        "covoxel.longitudinal.intensity",
        "covoxel.longitudinal.network",
        "covoxel.longitudinal.series",
        "covoxel.report.change",
        "covoxel.segmentation",
        "tasks.results",
        "tasks.follow",
        "tasks.visit_network",
    )

    template: Artifact
    moved: Artifact | None
    visits: Mapping[str, VisitFiles]
    labels: Mapping[int, Artifact]
    network: VisitNetwork | None = None
    span: tuple[str, str] | None = None
    earlier: Mapping[str, Any] = field(default_factory=dict)

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        inputs = {"template": self.template.sha256} | ({} if self.moved is None else {"moved": self.moved.sha256})
        for name, files in self.visits.items():
            inputs[f"native.{name}"] = files.native.sha256
            inputs[f"image.{name}"] = files.image.sha256
            inputs[f"transform.{name}"] = files.transform.sha256
        inputs |= {} if self.network is None else {"network": self.network.sha256}
        return inputs | {f"label.{value}": item.sha256 for value, item in self.labels.items()}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        network = {} if self.network is None else {"network": self.network.facts()}
        return {"span": None if self.span is None else list(self.span)} | network


@task(task_run_name="follow {job.case}", **TASK_OPTIONS)
@work
def follow(job: FollowJob) -> Made:
    """Write label map and confidence of every visit, and the map of change; the volumes are in the facts."""
    series, images = _series(job)
    values = [0, *sorted(job.labels)]
    probabilities, of_visits = _evidence(job, series, images, torch.tensor(values))
    outputs: list[Path] = []
    found: dict[str, Any] = {}
    for name, files in sorted(job.visits.items()):
        onto = load_image(files.native.path).grid
        here = carried(of_visits[name], series.transforms[name], onto)
        fused = fused_of(here, torch.tensor(values), torch.ones(onto.shape, dtype=torch.bool))
        label_map, confidence = Image(fused.label_map, onto), Image(fused.confidence, onto)
        outputs += write_result(label_map, confidence, _places(job, name))
        found[name] = result_facts(label_map, confidence, values) | {
            BY_LABELS: _text_keys(probable_volumes(here, values, onto)),
            BY_JACOBIAN: _text_keys(jacobian_volumes(probabilities, values, series.transforms[name])),
        }
    guard = Guard()
    outputs += _map_of_change(job, series, probabilities, values, guard)
    return Made(outputs, {"visits": found, "drift": _drift(job.earlier, found)}, guard.tracebacks)


def _evidence(
    job: FollowJob, series: Series, images: Mapping[str, Image], values: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Probabilities of the template and of each visit, both on the template's grid."""
    labels, settings = _probabilities(job, series.template), SeriesSettings()
    even = {name: levelled(series, images, name, settings) for name in sorted(images)}
    fused = {name: visit_probabilities(name, even, labels, values, appearance=0.0) for name in even}
    if job.network is None:
        return labels, fused
    seen = {name: job.network.seen(image) for name, image in even.items()}
    template, says = job.network.seen(series.template), job.network.loaded(job.device)
    found = network_probabilities(says, seen, fused, template, labels, values, device=job.device)
    return mean_probabilities(found, seen), found


def _places(job: FollowJob, visit: str) -> tuple[Path, Path]:
    """Where label map and confidence of a visit lie."""
    folder = job.layout.longitudinal("segmentations")
    return folder / f"{visit}.nii.gz", folder / f"{visit}_confidence.nii.gz"


def _series(job: FollowJob) -> tuple[Series, dict[str, Image]]:
    template = read_image(job.template.path)
    transforms = {name: read_transform(files.transform.path, template.grid) for name, files in job.visits.items()}
    return Series(template, transforms), {name: read_image(files.image.path) for name, files in job.visits.items()}


def _probabilities(job: FollowJob, template: Image) -> Tensor:
    """Probabilities `(label, *shape)`, background first, in the template; sampled once from the first template."""
    first = [read_image(artifact.path) for _, artifact in sorted(job.labels.items())]
    if not first:
        return torch.ones(1, *template.grid.shape)
    there = torch.stack([image.data.float() for image in first])
    if job.moved is not None:
        at = read_transform(job.moved.path, template.grid).moving_coordinates_vox(first[0].grid)
        there = sample(there[None], at, padding="zeros")[0]
    return torch.cat([(1 - there.sum(0, keepdim=True)).clamp(min=0), there])


def _map_of_change(
    job: FollowJob, series: Series, probabilities: Tensor, values: Sequence[int], guard: Guard
) -> list[Path]:
    if job.span is None:
        return []
    first, last = (series.transforms[name] for name in job.span)
    change = log_jacobian((first, last))
    path, figure = job.layout.longitudinal(f"maps/{job.case}_logjacobian.nii.gz"), change_figure(job)
    write_image(path, change)
    labels = Image(torch.tensor(values)[probabilities.argmax(0)], series.template.grid)
    write_bytes(figure, guard.picture("The map of change", lambda: change_map(series.template, change, labels), "WEBP"))
    return [path, figure]


def change_figure(job: FollowJob) -> Path:
    """Where the picture of a subject's change lies."""
    return job.layout.series(job.case, "change.webp")


def _drift(earlier: Mapping[str, Any], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What this work changes in the volumes there were, after what earlier work had changed."""
    visits = earlier.get("visits", {})
    added = sorted(set(found) - set(visits))
    rows = [
        {"id": name, "label": int(label), "from": by, "before_mm3": before, "after_mm3": found[name][by][label]}
        for name in sorted(set(visits) & set(found))
        for by in (BY_LABELS, BY_JACOBIAN)
        for label, before in visits[name][by].items()
        if label in found[name][by]
    ]
    changed = [row | {"added": ",".join(added) or None} for row in rows if row["before_mm3"] != row["after_mm3"]]
    return [*earlier.get("drift", []), *changed]


def _text_keys(volumes: Mapping[int, float]) -> dict[str, float]:
    return {str(value): volume for value, volume in volumes.items()}


def follow_jobs(study: Study) -> list[FollowJob]:
    """A job for each subject whose template is labelled."""
    jobs, network = [], visit_network(study)
    for subject in subjects_of(study):
        within, labelled = study.record(WITHIN, subject.key), study.record(LABELS, subject.key)
        if within is not None and labelled is not None:
            jobs.append(_job(study, subject, within, labelled, network))
    return jobs


def _job(study: Study, subject: Subject, within: Record, labelled: Record, network: VisitNetwork | None) -> FollowJob:
    layout, key = study.layout, subject.key
    moved = layout.series(key, "first_from_template_xfm.h5")
    is_moved = moved.relative_to(study.call.output).as_posix() in within.outputs
    dated = list(subject.years)
    before = read_record(study.manifest, STAGE, key, FollowFacts)
    return FollowJob(
        key,
        study.call.output,
        "cpu" if network is None else study.device,
        template=study.artifact(WITHIN, key, layout.series(key, "template.nii.gz")),
        moved=study.artifact(WITHIN, key, moved) if is_moved else None,
        visits={
            case.id: VisitFiles(
                Artifact(case.image, study.records["check"][case.id].inputs["image"]),
                study.artifact("visit", case.id, layout.visit(case.id)),
                study.artifact(WITHIN, key, layout.series(key, f"visits/{case.id}_xfm.h5")),
            )
            for case in subject.visits
        },
        labels={
            value: study.artifact(LABELS, key, probability_path(layout.series(key, "labels"), value))
            for value in labelled.facts["values"]
        },
        network=network,
        span=(dated[0], dated[-1]) if len(dated) > 1 else None,
        earlier={} if before is None else before.facts,
    )
