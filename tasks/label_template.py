"""Label template: the atlases, brought onto the template of one subject and fused there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from prefect import task

from covoxel.fusion.candidates import fused_parts
from covoxel.fusion.gather import gather
from covoxel.io import read_image, read_labels, read_transform, write_image
from covoxel.io.scratch import Scratch
from covoxel.longitudinal.intensity import scaled
from covoxel.preprocessing import normalise
from covoxel.registration import PairModel, register
from covoxel.spatial import Image, Transform, resample
from tasks.facts import LabelTemplateFacts
from tasks.job import Artifact, Job, Made, work
from tasks.models import load_model, model_sha256
from tasks.options import TASK_OPTIONS
from tasks.settings import RegisterSettings
from tasks.study import Study
from tasks.subjects import Subject, subjects_of
from tasks.within import FIRST
from tasks.within import STAGE as WITHIN

STAGE = "label-template"


@dataclass(frozen=True)
class AtlasSource:
    """An atlas: its image as visits are prepared, its labels, and its transform from the template if it is a visit."""

    image: Artifact
    labels: Artifact
    transform: Artifact | None = None


@dataclass(frozen=True)
class LabelTemplateJob(Job):
    """The first template of a subject and the atlases; a template that was updated since keeps these labels.

    Parameters
    ----------
    template
        The first template.
    atlases
        By id.
    engine
        How they are brought onto it.
    rule
        How they are fused.
    network
        SHA-256 of the network, for engines that have one.
    """

    stage = STAGE
    facts = LabelTemplateFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.registration",
        "covoxel.fusion",
        "covoxel.longitudinal.intensity",
        "covoxel.preprocessing",
        "tasks.label_template",
    )

    template: Artifact
    atlases: Mapping[str, AtlasSource] = field(default_factory=dict)
    engine: RegisterSettings = RegisterSettings()
    rule: str = "majority"
    network: str | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        inputs = {"template": self.template.sha256}
        for name, atlas in self.atlases.items():
            inputs |= {f"image.{name}": atlas.image.sha256, f"labels.{name}": atlas.labels.sha256}
            if atlas.transform is not None:
                inputs[f"transform.{name}"] = atlas.transform.sha256
        return inputs | ({} if self.network is None else {"model": self.network})

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        engine = {"engine": self.engine.engine, "options": dict(self.engine.options)}
        return engine | {"rule": self.rule}


@task(task_run_name="labels of {job.case}", **TASK_OPTIONS)
@work
def label_template(job: LabelTemplateJob) -> Made:
    """Write the probability of each label in the first template of a subject.

    Intensities are not cut off: where a bright structure is cut, its border lies farther out, in each image by as much
    as its own percentiles say, and labels that are too large take in what does not change.
    """
    template = scaled(read_image(job.template.path))
    names = sorted(job.atlases)
    atlases = [job.atlases[name] for name in names]
    label_maps = [read_labels(atlas.labels.path) for atlas in atlases]
    images = [_on(read_image(atlas.image.path), labels) for atlas, labels in zip(atlases, label_maps, strict=True)]
    transforms = _transforms(job, template, images, atlases)
    outputs = []
    with Scratch(job.layout.scratch) as scratch:
        source = gather(template, zip(images, label_maps, transforms, strict=True), scratch)
        values = source.values.tolist()
        kept = [scratch.array(source.shape, torch.float32) for _ in values]
        for part in fused_parts(source, {job.rule: {}}):
            probabilities = part.results[job.rule].probabilities
            for place, probability in zip(source.places_of(part.values).tolist(), probabilities, strict=True):
                kept[place].write(part.window, probability)
        for value, probability in zip(values[1:], kept[1:], strict=True):
            outputs.append(probability_path(job.layout.series(job.case, "labels"), value))
            write_image(outputs[-1], Image(probability.read(()), template.grid))
    return Made(outputs, {"values": values[1:], "atlases": names})


def probability_path(folder: Path, value: int) -> Path:
    """Where the probability of a label lies."""
    return folder / f"label-{value}_probseg.nii.gz"


def _on(image: Image, labels: Image) -> Image:
    """The image on the grid of its labels, which may have been cropped."""
    return image if image.grid.isclose(labels.grid) else resample(image, labels.grid)


def _transforms(
    job: LabelTemplateJob, template: Image, images: list[Image], atlases: list[AtlasSource]
) -> list[Transform]:
    """From points of the template to points of each atlas; an atlas that is a visit of the subject is there already."""
    foreign = [image for image, atlas in zip(images, atlases, strict=True) if atlas.transform is None]
    options: dict[str, Any] = dict(job.engine.options)
    if job.engine.model is not None and job.network is not None:
        options["model"] = _loaded(job.engine.model, job.network, job.device)
        # Networks have learnt from intensities of 0 to 1.
        template, *foreign = (Image(normalise(image), image.grid) for image in (template, *foreign))
    found = iter(register(job.engine.engine, template, foreign, device=job.device, **options) if foreign else [])
    return [
        next(found) if atlas.transform is None else read_transform(atlas.transform.path, template.grid)
        for atlas in atlases
    ]


@lru_cache(maxsize=2)
def _loaded(folder: Path, network: str, device: str) -> PairModel:
    """The network of a folder, whose SHA-256 is `network`; read once a process."""
    return load_model(folder, device)


def label_template_jobs(study: Study) -> list[LabelTemplateJob]:
    """A job for each subject that has a template."""
    settings = study.call.settings
    network = None if settings.register_.model is None else model_sha256(settings.register_.model)
    return [
        LabelTemplateJob(
            subject.key,
            study.call.output,
            study.device,
            template=study.artifact(WITHIN, subject.key, study.layout.series(subject.key, f"{FIRST}/template.nii.gz")),
            atlases={atlas.id: _source(study, subject, atlas.id) for atlas in study.atlases},
            engine=settings.register_,
            rule=settings.longitudinal.rule,
            network=network,
        )
        for subject in subjects_of(study)
        if study.record(WITHIN, subject.key) is not None
    ]


def _source(study: Study, subject: Subject, atlas: str) -> AtlasSource:
    path = study.layout.series(subject.key, f"{FIRST}/{atlas}_xfm.h5")
    relative = path.relative_to(study.call.output).as_posix()
    is_visit = relative in study.records[WITHIN][subject.key].outputs
    return AtlasSource(
        study.artifact("visit", atlas, study.layout.visit(atlas)),
        study.artifact("preprocess", atlas, study.layout.preprocessed_labels(atlas)),
        study.artifact(WITHIN, subject.key, path) if is_visit else None,
    )
