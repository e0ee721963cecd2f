"""Align: each image brought onto one reference by an affine transform, where a recipe trains on images so aligned."""

from collections.abc import Mapping
from dataclasses import dataclass

from prefect import task

from covoxel.io import read_image, write_transform
from covoxel.registration import register
from tasks.job import Artifact, Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.study import Study


@dataclass(frozen=True)
class AlignJob(Job):
    """The preprocessed images of the reference and of a case."""

    stage = "align"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.preprocessing",
        "covoxel.registration",
        "tasks.align",
    )

    reference: Artifact
    image: Artifact

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"reference": self.reference.sha256, "image": self.image.sha256}


@task(task_run_name="align {job.case}", **TASK_OPTIONS)
@work
def align(job: AlignJob) -> Made:
    """Write the transform from points of the reference (fixed) to points of the case (moving)."""
    fixed, moving = read_image(job.reference.path), read_image(job.image.path)
    (transform,) = register("affine", fixed, [moving], device=job.device)
    path = job.layout.alignment(job.case)
    write_transform(path, transform)
    return Made([path], {})


def align_jobs(study: Study) -> list[AlignJob]:
    """A job for each case but the reference, if the recipe of a training wants affine alignment."""
    if study.alignment != "affine":
        return []
    images = {case: study.artifact("preprocess", case, study.layout.preprocessed(case)) for case in training_ids(study)}
    reference = reference_of(study) if images else ""
    return [
        AlignJob(case, study.call.output, study.device, images[reference], image)
        for case, image in images.items()
        if case != reference
    ]


def training_ids(study: Study) -> list[str]:
    """Ids of the sound cases that train: atlases first, then the others."""
    return [case.id for case in (*study.atlases, *study.fixed) if study.trains_on(case)]


def reference_of(study: Study) -> str:
    """Id of the case onto which the others are brought: the first sound atlas, or without any the first case, by id."""
    return min(case.id for case in study.atlases or study.fixed)
