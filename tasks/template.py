"""Template: the mean of the aligned atlases, onto which a case is brought once to be compared with them all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from prefect import task

from covoxel.io import read_image, write_image
from covoxel.registration import register
from covoxel.spatial import Image, resample
from tasks.job import COHORT, Artifact, Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.study import Study

ROUNDS = 2
COARSE: dict[str, Any] = {"finest_voxels": 20_000, "iterations": (40, 30)}
"""Options of the affine engine: enough to compare images, a fraction of the cost of the default."""


@dataclass(frozen=True)
class TemplateJob(Job):
    """The preprocessed images of all atlases, by id."""

    stage = "template"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.preprocessing",
        "covoxel.registration",
        "tasks.template",
    )

    atlases: Mapping[str, Artifact]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: atlas.sha256 for name, atlas in self.atlases.items()}


@task(task_run_name="template", **TASK_OPTIONS)
@work
def template(job: TemplateJob) -> Made:
    """Write the template, and each atlas as it lies on it."""
    images = {name: read_image(job.atlases[name].path) for name in sorted(job.atlases)}
    middle, placed = mean_of(images, job.device)
    outputs = [job.layout.template]
    write_image(outputs[0], middle)
    for name, image in placed.items():
        outputs.append(job.layout.on_template(name))
        write_image(outputs[-1], image)
    return Made(outputs, {})


def mean_of(images: Mapping[str, Image], device: str) -> tuple[Image, dict[str, Image]]:
    """Mean of images after affine alignment, twice: onto the first of them, then onto the mean itself."""
    middle = next(iter(images.values()))
    placed = dict(images)
    for _ in range(ROUNDS):
        transforms = register("affine", middle, list(images.values()), device=device, **COARSE)
        placed = {
            name: resample(image, middle.grid, transform)
            for (name, image), transform in zip(images.items(), transforms, strict=True)
        }
        middle = Image(torch.stack([image.data for image in placed.values()]).mean(0), middle.grid)
    return middle, placed


def template_jobs(study: Study) -> list[TemplateJob]:
    """The one job, if atlases are chosen by their distance on the template."""
    settings = study.call.settings.atlases
    if settings.count is None or settings.by != "template" or not study.atlases:
        return []
    atlases = {
        case.id: study.artifact("preprocess", case.id, study.layout.preprocessed(case.id)) for case in study.atlases
    }
    return [TemplateJob(COHORT, study.call.output, study.device, atlases)]
