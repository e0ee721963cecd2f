"""Route: the atlases brought onto one case through a template of theirs, by one registration in place of many."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect import task

from covoxel.atlas.route import through_template
from covoxel.io import read_image, write_transform
from covoxel.metrics import folding
from covoxel.registration import register
from covoxel.spatial import Transform
from tasks.atlas_steps import CODE, Group, last_step, placed, placements_of, stage_name
from tasks.call import NothingDoneError
from tasks.choose import kept_atlases
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.models import load_model, model_sha256
from tasks.options import TASK_OPTIONS
from tasks.settings import RegisterSettings
from tasks.study import Study

GROUP = "atlases"
"""The group of all atlases of a few-shot run."""


@dataclass(frozen=True)
class RouteJob(Job):
    """A case onto which all atlases are brought through their template.

    Parameters
    ----------
    fixed
        Preprocessed image of the case.
    moving, placements
        Preprocessed images of the atlases, by id, and where each lay on the template onto which it was brought last.
    template, shape
        The template, and what was taken out of its shape when it was made.
    own
        Where the case lay itself, if it is an atlas: then it costs no registration.
    settings, network
        Engine of the one registration and its options; SHA-256 of its network, if it has one.
    """

    stage = "register"
    code = (*CODE, "tasks.route")

    fixed: Artifact
    moving: Mapping[str, Artifact]
    placements: Mapping[str, Artifact]
    template: Artifact
    shape: Artifact
    own: Artifact | None
    settings: RegisterSettings
    network: str | None = None

    @property
    def vital(self) -> bool:
        """An atlas that cannot be labelled by the others still labels cases."""
        return self.own is None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        files = {"fixed": self.fixed, "template": self.template, "shape": self.shape}
        if self.own is not None:
            files["own"] = self.own
        files |= {f"moving.{name}": file for name, file in self.moving.items()}
        files |= {f"placement.{name}": file for name, file in self.placements.items()}
        found = {name: file.sha256 for name, file in files.items()}
        return found if self.network is None else found | {"model": self.network}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on; folders are known by the content of their files."""
        return self.settings.directly() | {"refine": self.settings.refine}


@task(task_run_name="register {job.case} through the template", **TASK_OPTIONS)
@work
def route(job: RouteJob) -> Made:
    """Write one ITK transform an atlas: it resamples the atlas (moving) onto the case (fixed)."""
    names = sorted(job.moving)
    transforms = through_template(
        read_image(job.fixed.path),
        _template_from_case(job),
        [read_image(job.moving[name].path) for name in names],
        [placed(job.placements[name].path, job.shape.path) for name in names],
        refine=job.settings.refine,
        device=job.device,
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
    return Made(outputs, {"transforms": facts, "registrations": 0 if job.own else 1})


def _template_from_case(job: RouteJob) -> Transform:
    """By the placement of an atlas, or by the one registration of a case."""
    fixed = read_image(job.fixed.path)
    if job.own is not None:
        return placed(job.own.path, job.shape.path).inverse(fixed.grid)
    options: dict[str, Any] = dict(job.settings.options)
    if job.network is not None and job.settings.model is not None:
        options["model"] = load_model(job.settings.model, job.device)
    (found,) = register(job.settings.engine, fixed, [read_image(job.template.path)], device=job.device, **options)
    if not np.isfinite(found.moving_from_fixed).all():
        raise ValueError("it could not be brought onto the template of the atlases")
    return found


def group_of_atlases(study: Study) -> Group:
    """The atlases, sound so far, of which the template is made."""
    return Group(GROUP, tuple(case.id for case in study.cohort.atlases))


def route_jobs(study: Study) -> list[RouteJob]:
    """A job for each sound case that atlases are brought onto, if they come through a template."""
    group = group_of_atlases(study)
    step = last_step(study, group) if study.through_template else None
    if step is None:
        return []
    layout, stage = study.layout, stage_name("mean", group.name, step.number)
    template = study.artifact(stage, COHORT, layout.mean_image(group.name, step.number))
    found = {case: (placement, shape) for case, placement, shape in placements_of(study, group, step)}
    settings = study.call.settings.register_
    network = None if settings.model is None else model_sha256(settings.model)
    shape = next(iter(found.values()))[1]
    jobs = []
    for case in study.to_register:
        names = [atlas for atlas in kept_atlases(study, case) if atlas in found]
        jobs.append(
            RouteJob(
                case,
                study.call.output,
                study.device,
                fixed=study.artifact("preprocess", case, layout.preprocessed(case)),
                moving={atlas: study.artifact("preprocess", atlas, layout.preprocessed(atlas)) for atlas in names},
                placements={atlas: found[atlas][0] for atlas in names},
                template=template,
                shape=shape,
                own=found[case][0] if case in found else None,
                settings=settings,
                network=network,
            )
        )
    return jobs


def require_routes(study: Study) -> None:
    """Refuse to go on if atlases were to come through a template and there is none.

    Raises
    ------
    NothingDoneError
        If fewer than two atlases are fit for it, or it could not be begun.
    """
    if study.through_template and last_step(study, group_of_atlases(study)) is None:
        why = next((reason for stage, reason in study.trouble.items() if stage.startswith(GROUP)), None)
        raise NothingDoneError(
            f"the atlases have no template: {why or 'fewer than two are fit for one'}; register.route = 'direct' "
            "needs none"
        )
