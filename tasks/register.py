"""Register: the transforms that bring every atlas onto one case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from prefect import task

from covoxel.io import read_image, read_labels
from covoxel.io.transforms import write_transform
from covoxel.metrics import folding
from covoxel.registration import PairError, PairModel
from covoxel.registration import register as register_images
from covoxel.registration.plausible import implausible
from covoxel.spatial import Image, Transform, resample_probabilities
from data_catalog.files import sha256_of
from tasks.atlas_label import label_of
from tasks.choose import kept_atlases
from tasks.engine import LABELS, label_map_of
from tasks.facts import RegisterFacts
from tasks.job import Artifact, Job, Made, number, work
from tasks.models import load_model, model_sha256
from tasks.options import TASK_OPTIONS
from tasks.same_labels import same_labels
from tasks.settings import RegisterSettings
from tasks.study import Study

LABEL_MAP = "label_map"
"""Name, among the inputs of a record, of the label map that drove a registration."""
MOST_REMARKS = 3
"""So many remarks on single atlases are shown."""


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
    network
        SHA-256 of the network, for engines that have one.
    label_map
        Predicted label map of the case, where one is to drive the registration.
    own_label_map
        True label map of a case that is an atlas; it may not drive its registration.
    moving_labels
        Label maps of the atlases by id, on the grids of their preprocessed images, if one is to drive.
    """

    stage = "register"
    facts = RegisterFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.metrics.folding",
        "covoxel.preprocessing",
        "covoxel.registration",
        "tasks.register",
    )

    fixed: Artifact
    moving: Mapping[str, Artifact]
    settings: RegisterSettings
    is_atlas: bool
    network: str | None = None
    label_map: Artifact | None = None
    own_label_map: Artifact | None = None
    moving_labels: Mapping[str, Artifact] = field(default_factory=dict)

    @property
    def vital(self) -> bool:
        """An atlas that cannot be labelled by the others still labels cases."""
        return not self.is_atlas

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        inputs = {"fixed": self.fixed.sha256, **{f"moving.{name}": item.sha256 for name, item in self.moving.items()}}
        if self.network is not None:
            inputs["model"] = self.network
        if self.label_map is not None:
            inputs[LABEL_MAP] = self.label_map.sha256
            inputs |= {f"moving_labels.{name}": item.sha256 for name, item in self.moving_labels.items()}
        if self.own_label_map is not None:
            inputs["own_label_map"] = self.own_label_map.sha256
        return inputs

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on; folders are known by the content of their files."""
        return self.settings.directly()


@task(task_run_name="register {job.case}", **TASK_OPTIONS)
@work
def register(job: RegisterJob) -> Made:
    """Write one ITK transform an atlas: it resamples the atlas (moving) onto the case (fixed)."""
    names = sorted(job.moving)
    transforms = registered(job, names)
    outputs = [job.layout.transform(job.case, name) for name in names]
    for path, transform in zip(outputs, transforms, strict=True):
        write_transform(path, transform)
    return Made(outputs, {"transforms": {n: facts_of(t) for n, t in zip(names, transforms, strict=True)}})


def facts_of(transform: Transform) -> dict[str, Any]:
    """What a record keeps of a transform: how regular it is, and what a reader should know of it, if anything."""
    regularity, why = folding(transform), implausible(transform.moving_from_fixed)
    facts: dict[str, Any] = {
        "folded_percent": number(regularity.percent),
        "sd_log_jacobian": number(regularity.sd_log_jacobian),
    }
    remark = transform.remark or (f"the affine part {why}, which no anatomy does" if why else "")
    return facts | ({"remark": remark} if remark else {})


def remarks_of(facts: Mapping[str, Any]) -> list[str]:
    """Sentences on the transforms of a case, by the facts of its record: `MOST_REMARKS`, then how many more."""
    transforms = facts["transforms"]
    found = [f"atlas {name}: {each['remark']}" for name, each in transforms.items() if each.get("remark")]
    rest = len(found) - MOST_REMARKS
    if rest > 0:
        found = [*found[:MOST_REMARKS], f"and so for {rest} more of {len(transforms)} atlases"]
    return found + ([f"template: {facts['remark']}"] if "remark" in facts else [])


def registered(job: RegisterJob, names: Sequence[str]) -> list[Transform]:
    """Transforms from points of the case (fixed) to points of these of the moving images, by the engine of the job."""
    fixed = read_image(job.fixed.path)
    given: dict[str, Any] = dict(job.settings.options)
    if job.settings.model is not None and job.network is not None:
        given["model"] = _loaded(job.settings.model, job.network, job.device)
    given |= _driving(job, fixed, names)
    moving = [read_image(job.moving[name].path) for name in names]
    try:
        return register_images(job.settings.engine, fixed, moving, device=job.device, **given)
    except PairError as error:
        raise ValueError(f"{names[error.index]} could not be brought onto the case: {error.reason}") from error


@lru_cache(maxsize=2)
def _loaded(folder: Path, network: str, device: str) -> PairModel:
    """The network of a folder, whose SHA-256 is `network`; read once a process, not once a case."""
    return load_model(folder, device)


def _driving(job: RegisterJob, fixed: Image, names: Sequence[str]) -> dict[str, Any]:
    """Settings by which labels drive the engine; none where no label map may."""
    if job.label_map is None:
        return {}
    label_map = read_labels(job.label_map.path)
    if job.own_label_map is not None and same_labels(label_map, read_labels(job.own_label_map.path)):
        return {}
    maps = [read_labels(job.moving_labels[name].path) for name in names]
    values = torch.unique(torch.cat([torch.zeros(1, dtype=torch.int64), *(each.data.reshape(-1) for each in maps)]))
    moving_labels = [each.data[None] == values.view(-1, *[1] * each.grid.ndim) for each in maps]
    return {
        "drive": LABELS,
        "fixed_labels": resample_probabilities(label_map, values, fixed.grid),
        "moving_labels": moving_labels,
    }


def register_jobs(study: Study) -> list[RegisterJob]:
    """A job for each sound case that atlases are brought onto, if they come directly."""
    if study.through_template:
        return []
    images = {
        case.id: study.artifact("preprocess", case.id, study.layout.preprocessed(case.id))
        for case in (*study.atlases, *study.fixed)
    }
    settings = study.call.settings.register_
    network = None if settings.model is None else model_sha256(settings.model)
    return [
        RegisterJob(
            case,
            study.call.output,
            study.device,
            fixed=images[case],
            moving={atlas: images[atlas] for atlas in kept_atlases(study, case)},
            settings=settings,
            is_atlas=study.cohort.case(case).role == "atlas",
            network=network,
            **_label_maps(study, case),
        )
        for case in study.to_register
    ]


def driving_label_map(study: Study, case: str) -> Artifact | None:
    """The label map that drove the registration of a case in this run, if one did."""
    record, folder = study.record("register", case), study.call.settings.register_.labels
    if record is None or folder is None or LABEL_MAP not in record.inputs:
        return None
    path = label_map_of(folder, case)
    return None if path is None else Artifact(path, record.inputs[LABEL_MAP])


def _label_maps(study: Study, case: str) -> dict[str, Any]:
    """What a job is given if a label map is to drive it; a case without one goes by the images alone."""
    folder = study.call.settings.register_.labels
    if folder is None:
        return {}
    path, own = label_map_of(folder, case), study.cohort.case(case)
    if path is None:
        study.flag(case, "no predicted label map drove its registration")
        return {}
    return {
        "label_map": Artifact(path, sha256_of(path)),
        "own_label_map": label_of(study, own) if own.role == "atlas" else None,
        "moving_labels": {
            atlas: study.artifact("preprocess", atlas, study.layout.preprocessed_labels(atlas))
            for atlas in kept_atlases(study, case)
        },
    }
