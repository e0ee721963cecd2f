"""Register: the transforms that bring every atlas onto one case."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.io import read_image
from covoxel.io.transforms import write_transform
from covoxel.metrics import folding
from covoxel.registration import register as register_images
from tasks.choose import kept_atlases
from tasks.job import Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.settings import RegisterSettings
from tasks.study import Study


@dataclass(frozen=True)
class RegisterJob(Job):
    """A case onto which all atlases are brought in one batch.

    Parameters
    ----------
    fixed
        Preprocessed image of the case.
    moving
        Preprocessed images of the atlases, by id.
    settings
        Engine and its options.
    is_atlas
        Whether the case is an atlas itself, which the others are to label.
    """

    stage = "register"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.metrics.folding",
        "covoxel.registration",
        "tasks.register",
    )

    fixed: Artifact
    moving: Mapping[str, Artifact]
    settings: RegisterSettings
    is_atlas: bool

    @property
    def vital(self) -> bool:
        """An atlas that cannot be labelled by the others still labels cases."""
        return not self.is_atlas

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"fixed": self.fixed.sha256, **{f"moving.{name}": item.sha256 for name, item in self.moving.items()}}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.model_dump(mode="json")


@task(task_run_name="register {job.case}", **TASK_OPTIONS)
@work
def register(job: RegisterJob) -> Made:
    """Write one ITK transform an atlas: it resamples the atlas (moving) onto the case (fixed)."""
    names = sorted(job.moving)
    transforms = register_images(
        job.settings.engine,
        read_image(job.fixed.path),
        [read_image(job.moving[name].path) for name in names],
        device=job.device,
        **job.settings.options,
    )
    outputs = [job.layout.transform(job.case, name) for name in names]
    facts = {}
    for name, path, transform in zip(names, outputs, transforms, strict=True):
        write_transform(path, transform)
        regularity = folding(transform)
        facts[name] = {
            "folded_percent": number(regularity.percent),
            "sd_log_jacobian": number(regularity.sd_log_jacobian),
        }
    return Made(outputs, {"transforms": facts})


def register_jobs(study: Study) -> list[RegisterJob]:
    """A job for each sound case that atlases are brought onto."""
    images = {
        case.id: study.artifact("preprocess", case.id, study.layout.preprocessed(case.id))
        for case in (*study.atlases, *study.fixed)
    }
    return [
        RegisterJob(
            case,
            study.call.output,
            study.device,
            fixed=images[case],
            moving={atlas: images[atlas] for atlas in kept_atlases(study, case)},
            settings=study.call.settings.register_,
            is_atlas=study.cohort.case(case).role == "atlas",
        )
        for case in study.to_register
    ]
