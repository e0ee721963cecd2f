"""Visit: each image of a subject on a canonical grid, intensities scaled and not cut off."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task

from covoxel.io import write_image
from covoxel.longitudinal.intensity import scaled
from covoxel.preprocessing import canonical, correct_bias, respaced
from data_catalog.files import load_image
from tasks.job import Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.settings import PreprocessSettings
from tasks.study import Study
from tasks.subjects import subjects_of


@dataclass(frozen=True)
class VisitJob(Job):
    """An image to prepare for a series, or an atlas for the template of one."""

    stage = "visit"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.preprocessing",
        "covoxel.longitudinal.intensity",
        "tasks.visit",
    )

    image: Path
    image_sha256: str
    settings: PreprocessSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"image": self.image_sha256}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {"bias": self.settings.bias, "spacing_mm": self.settings.spacing_mm}


@task(task_run_name="visit {job.case}", **TASK_OPTIONS)
@work
def visit(job: VisitJob) -> Made:
    """Write the prepared image of one visit or atlas."""
    image = canonical(load_image(job.image))
    if job.settings.bias:
        image = correct_bias(image)
    if job.settings.spacing_mm is not None:
        image = respaced(image, job.settings.spacing_mm)
    path = job.layout.visit(job.case)
    write_image(path, scaled(image))
    return Made([path], {})


def visit_jobs(study: Study) -> list[VisitJob]:
    """A job for each sound visit of the subjects of this run, and for each atlas."""
    visits = {case.id: case for subject in subjects_of(study) for case in subject.visits}
    return [
        VisitJob(
            case.id,
            study.call.output,
            "cpu",
            image=case.image,
            image_sha256=study.records["check"][case.id].inputs["image"],
            settings=study.call.settings.preprocess,
        )
        for case in (visits | {atlas.id: atlas for atlas in study.atlases}).values()
    ]
