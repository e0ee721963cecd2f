"""Fuse: the labels of all atlases, brought onto one case, become its label map and a confidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prefect import task
from torch import Tensor

from covoxel.fusion import Evidence, Fused, gather_evidence
from covoxel.fusion import fuse as fuse_evidence
from covoxel.io import read_image, read_labels, read_transform, write_image, write_labels
from covoxel.metrics import volumes_mm3
from covoxel.preprocessing import restore_labels, restore_map
from covoxel.spatial import Image
from data_catalog.files import load_image
from tasks.job import Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.settings import FuseSettings
from tasks.study import Study


@dataclass(frozen=True)
class AtlasFiles:
    """What fusion reads of one atlas: image, labels on its grid, and the transform onto the case."""

    image: Artifact
    labels: Artifact
    transform: Artifact


@dataclass(frozen=True)
class FuseJob(Job):
    """A case and the atlases that label it.

    Parameters
    ----------
    native
        The image as it came: the label map returns to its grid.
    fixed
        The preprocessed image.
    atlases
        What is read of each atlas, by id.
    settings
        Fusion rule and its options.
    """

    stage = "fuse"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses.box",
        "covoxel.metrics.volumes",
        "covoxel.preprocessing",
        "covoxel.fusion",
        "tasks.fuse",
    )

    native: Artifact
    fixed: Artifact
    atlases: Mapping[str, AtlasFiles]
    settings: FuseSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        inputs = {"native": self.native.sha256, "fixed": self.fixed.sha256}
        for name, atlas in self.atlases.items():
            inputs[f"image.{name}"] = atlas.image.sha256
            inputs[f"labels.{name}"] = atlas.labels.sha256
            inputs[f"transform.{name}"] = atlas.transform.sha256
        return inputs

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.model_dump(mode="json")


@dataclass(frozen=True)
class KeepJob(Job):
    """An atlas, whose own label map is its segmentation."""

    stage = "fuse"
    code = ("covoxel.io", "covoxel.metrics.volumes", "tasks.fuse")

    label: Artifact

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"label": self.label.sha256}


@task(task_run_name="fuse {job.case}", **TASK_OPTIONS)
@work
def fuse(job: FuseJob) -> Made:
    """Write label map and confidence on the case's own grid."""
    fixed = read_image(job.fixed.path).to(job.device)
    names = sorted(job.atlases)
    evidence = gather_evidence(
        fixed,
        [read_image(job.atlases[name].image.path) for name in names],
        [read_labels(job.atlases[name].labels.path) for name in names],
        [read_transform(job.atlases[name].transform.path, fixed.grid) for name in names],
    )
    fused = fuse_evidence(job.settings.rule, evidence, **job.settings.options)
    likeness = {name: number(value) for name, value in zip(names, _likeness(evidence), strict=True)}
    label_map, confidence = _restore(fused, evidence, fixed, load_image(job.native.path))
    facts = _facts(label_map, confidence, evidence.values.tolist())
    return Made(_write(job, label_map, confidence), {**facts, "likeness": likeness})


@task(task_run_name="keep the label of {job.case}", **TASK_OPTIONS)
@work
def keep(job: KeepJob) -> Made:
    """Write the label map that an atlas came with as its segmentation, with full confidence."""
    label_map = read_labels(job.label.path)
    confidence = Image(torch.ones(label_map.grid.shape), label_map.grid)
    values = torch.unique(label_map.data).tolist()
    return Made(_write(job, label_map, confidence), {**_facts(label_map, confidence, values), "likeness": {}})


def fuse_jobs(study: Study) -> list[FuseJob]:
    """A job for each case that has its transforms."""
    layout, jobs = study.layout, []
    for case in study.fixed:
        atlases = {
            atlas.id: AtlasFiles(
                image=study.artifact("preprocess", atlas.id, layout.preprocessed(atlas.id)),
                labels=study.artifact("preprocess", atlas.id, layout.preprocessed_labels(atlas.id)),
                transform=study.artifact("register", case.id, layout.transform(case.id, atlas.id)),
            )
            for atlas in study.atlases
        }
        jobs.append(
            FuseJob(
                case.id,
                study.call.output,
                study.device,
                native=Artifact(case.image, study.records["check"][case.id].inputs["image"]),
                fixed=study.artifact("preprocess", case.id, layout.preprocessed(case.id)),
                atlases=atlases,
                settings=study.call.settings.fuse,
            )
        )
    return jobs


def keep_jobs(study: Study) -> list[KeepJob]:
    """A job for each sound atlas among the cases of the run."""
    wanted = {case.id for case in study.selected}
    return [
        KeepJob(
            atlas.id,
            study.call.output,
            "cpu",
            label=Artifact(atlas.training_label(), study.records["check"][atlas.id].inputs["label"]),
        )
        for atlas in study.atlases
        if atlas.id in wanted
    ]


def _restore(fused: Fused, evidence: Evidence, fixed: Image, native: Image) -> tuple[Image, Image]:
    """Label map and confidence on the grid of `native`, by one interpolation of the probabilities."""
    label_map = restore_labels(fused.probabilities.cpu(), fixed.grid, native.grid, values=evidence.values.cpu())
    return label_map, restore_map(fused.confidence.cpu(), fixed.grid, native.grid)


def _likeness(evidence: Evidence) -> list[float]:
    """Correlation of each moved atlas with the fixed image, where the atlas sees it."""
    return [
        _correlation(moved[valid], evidence.fixed[valid])
        for moved, valid in zip(evidence.moved, evidence.valid, strict=True)
    ]


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())


def _facts(label_map: Image, confidence: Image, values: list[int]) -> dict[str, Any]:
    inside = label_map.data != 0
    structures = [value for value in values if value != 0]
    volumes = volumes_mm3(label_map, structures)
    certain = {value: confidence.data[label_map.data == value].double() for value in structures}
    return {
        "quality": number(float(confidence.data[inside].double().mean())),
        "ndim": label_map.grid.ndim,
        "volumes_mm3": {str(value): volumes[value] for value in structures},
        "confidence": {str(value): number(float(voxels.mean())) for value, voxels in certain.items()},
    }


def _write(job: Job, label_map: Image, confidence: Image) -> list[Path]:
    outputs = [job.layout.segmentation(job.case), job.layout.confidence(job.case)]
    write_labels(outputs[0], label_map)
    write_image(outputs[1], confidence)
    return outputs
