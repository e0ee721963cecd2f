"""Route: the atlases brought onto one case through a template of theirs, by one registration in place of many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect import task

from covoxel.atlas.library import likeness
from covoxel.atlas.route import through_template
from covoxel.io import read_image, write_transform
from covoxel.registration import register
from covoxel.spatial import Image, Transform
from tasks import settings as of_user
from tasks.atlas_steps import CODE, core_settings, last_step, note_left_out, placed, placements_of, stage_name
from tasks.call import NothingDoneError
from tasks.choose import kept_atlases
from tasks.facts import RegisterFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.library import GROUP, TemplateFiles, group_of_atlases, templates_of, usual_of
from tasks.models import load_model, model_sha256
from tasks.options import TASK_OPTIONS
from tasks.register import facts_of
from tasks.study import Study


@dataclass(frozen=True)
class RouteJob(Job):
    """A case onto which all atlases are brought through the template that is closest to it.

    Parameters
    ----------
    fixed
        Preprocessed image of the case.
    moving, placements
        Preprocessed images of the atlases, by id, and where each lay on the template onto which it was brought last.
    templates
        Those there are.
    shared
        The template of all atlases, of which the others were made.
    own
        Where the case lay itself, if it is an atlas: then it costs no registration.
    settings, network
        Engine of the one registration and its options; SHA-256 of its network, if it has one.
    choosing
        How a case is brought onto the shared template to be compared with the others.
    usual
        Mean correlation of the atlases with each template, where there are several.
    """

    stage = "register"
    facts = RegisterFacts
    code = (*CODE, "tasks.library", "tasks.route")

    fixed: Artifact
    moving: Mapping[str, Artifact]
    placements: Mapping[str, Artifact]
    templates: Sequence[TemplateFiles]
    shared: Artifact
    own: Artifact | None
    settings: of_user.RegisterSettings
    network: str | None
    choosing: of_user.TemplateSettings
    usual: Sequence[float]

    @property
    def vital(self) -> bool:
        """An atlas that cannot be labelled by the others still labels cases."""
        return self.own is None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        files = {"fixed": self.fixed, "template": self.shared}
        if self.own is not None:
            files["own"] = self.own
        for index, template in enumerate(self.templates, 1):
            files |= {f"template.{index}": template.image, f"shape.{index}": template.shape}
        files |= {f"moving.{name}": file for name, file in self.moving.items()}
        files |= {f"placement.{name}": file for name, file in self.placements.items()}
        found = {name: file.sha256 for name, file in files.items()}
        return found if self.network is None else found | {"model": self.network}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on; folders are known by the content of their files."""
        choosing = self.choosing.model_dump(mode="json", include={"freedom", "similarity", "contrast"})
        found = self.settings.directly() | {"refine": self.settings.refine}
        if len(self.templates) > 1:
            groups = [list(template.atlases) for template in self.templates]
            found |= {"choosing": choosing, "groups": groups, "usual": list(self.usual)}
        return found


@task(task_run_name="register {job.case} through the template", **TASK_OPTIONS)
@work
def route(job: RouteJob) -> Made:
    """Write one ITK transform an atlas: it resamples the atlas (moving) onto the case (fixed)."""
    names, fixed = sorted(job.moving), read_image(job.fixed.path)
    chosen, facts = _closest(job, fixed)
    shape = job.templates[chosen].shape.path
    onto_template = _template_from_case(job, fixed, job.templates[chosen])
    transforms = through_template(
        fixed,
        onto_template,
        [read_image(job.moving[name].path) for name in names],
        [placed(job.placements[name].path, shape) for name in names],
        refine=job.settings.refine,
        device=job.device,
    )
    outputs = [job.layout.transform(job.case, name) for name in names]
    for path, transform in zip(outputs, transforms, strict=True):
        write_transform(path, transform)
    facts |= {"remark": onto_template.remark} if onto_template.remark else {}
    found = {name: facts_of(transform) for name, transform in zip(names, transforms, strict=True)}
    return Made(outputs, {"transforms": found, "registrations": 0 if job.own else 1, **facts})


def _closest(job: RouteJob, fixed: Image) -> tuple[int, dict[str, Any]]:
    """Index of the template that serves the case, and what is to be known of that where there are several.

    A case goes to the one that it is most like after an affine registration, measured by how like it the atlases are;
    an atlas goes to that of its group.
    """
    if len(job.templates) < 2:
        return 0, {}
    own = [index for index, template in enumerate(job.templates) if job.case in template.atlases]
    if own:
        return own[0], {"template": own[0] + 1}
    images = [read_image(file.path).to(job.device) for file in (job.shared, *(each.image for each in job.templates))]
    found = likeness(fixed.to(job.device), images[0], images[1:], job.usual, core_settings(job.choosing))
    chosen = int(np.argmax(found))
    return chosen, {"template": chosen + 1, "likeness": [number(value) for value in found]}


def _template_from_case(job: RouteJob, fixed: Image, template: TemplateFiles) -> Transform:
    """By the placement of an atlas, or by the one registration of a case."""
    if job.own is not None:
        return placed(job.own.path, template.shape.path).inverse(fixed.grid)
    options: dict[str, Any] = dict(job.settings.options)
    if job.network is not None and job.settings.model is not None:
        options["model"] = load_model(job.settings.model, job.device)
    (found,) = register(job.settings.engine, fixed, [read_image(template.image.path)], device=job.device, **options)
    if not np.isfinite(found.moving_from_fixed).all():
        raise ValueError("it could not be brought onto the template of the atlases")
    return found


def route_jobs(study: Study) -> list[RouteJob]:
    """A job for each sound case that atlases are brought onto, if they come through a template."""
    group = group_of_atlases(study)
    step = last_step(study, group) if study.through_template else None
    templates = [] if step is None else templates_of(study)
    usual = usual_of(study)
    if step is None or not templates or (len(templates) > 1 and len(usual) != len(templates)):
        return []
    note_left_out(study, group, step.number)
    layout, settings = study.layout, study.call.settings
    shared = study.artifact(
        stage_name("mean", group.name, step.number), COHORT, layout.mean_image(group.name, step.number)
    )
    found = {case: placement for case, placement, _ in placements_of(study, group, step)}
    network = None if settings.register_.model is None else model_sha256(settings.register_.model)
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
                placements={atlas: found[atlas] for atlas in names},
                templates=templates,
                shared=shared,
                own=found.get(case),
                settings=settings.register_,
                network=network,
                choosing=settings.template,
                usual=usual,
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
    if study.through_template and not templates_of(study):
        why = next((reason for stage, reason in study.trouble.items() if stage.startswith(GROUP)), None)
        raise NothingDoneError(
            f"the atlases have no template: {why or 'fewer than two are fit for one'}; register.route = 'direct' "
            "needs none"
        )
