"""Preprocess: each image as the stages work on it, in the same world as the image it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prefect import task

from covoxel.io import read_labels, write_image, write_labels
from covoxel.preprocessing import cropped_to_content
from covoxel.preprocessing import preprocess as prepare
from covoxel.spatial import Image, resample_labels
from data_catalog.files import load_image
from tasks.atlas_label import label_of
from tasks.call import NothingDoneError
from tasks.job import Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.settings import PreprocessSettings
from tasks.study import Study


@dataclass(frozen=True)
class PreprocessJob(Job):
    """An image to prepare, and its label map if it is an atlas."""

    stage = "preprocess"
    code = ("covoxel.spatial", "covoxel.io", "covoxel.preprocessing", "tasks.preprocess")

    image: Path
    image_sha256: str
    label: Path | None
    label_sha256: str | None
    settings: PreprocessSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        label = {} if self.label_sha256 is None else {"label": self.label_sha256}
        return {"image": self.image_sha256, **label}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.model_dump(mode="json")


@task(task_run_name="preprocess {job.case}", **TASK_OPTIONS)
@work
def preprocess(job: PreprocessJob) -> Made:
    """Write the prepared image, and an atlas' label map on its grid.

    A border of one value or of noise is cut off, unless labels of the atlas lie in it.
    """
    settings = job.settings
    labels = None if job.label is None else read_labels(job.label)
    image = prepare(
        _content(load_image(job.image), labels),
        bias=settings.bias,
        spacing_mm=settings.spacing_mm,
        crop=settings.crop,
        margin_mm=settings.margin_mm,
    )
    outputs = [job.layout.preprocessed(job.case)]
    write_image(outputs[0], image)
    if labels is not None:
        outputs.append(job.layout.preprocessed_labels(job.case))
        write_labels(outputs[1], resample_labels(labels, image.grid))
    return Made(outputs, {"shape": list(image.grid.shape)})


def _content(image: Image, labels: Image | None) -> Image:
    """The image without its border; all of it if the border holds labels."""
    content = cropped_to_content(image)
    if labels is None or content is image:
        return content
    voxel = content.grid.to_voxel(labels.grid.to_ras(torch.nonzero(labels.data).numpy()))
    inside = ((voxel > -1) & (voxel < content.grid.shape)).all()
    return content if inside else image


def preprocess_jobs(study: Study) -> list[PreprocessJob]:
    """A job for each sound atlas and each sound case of the run."""
    jobs = []
    for case in (*study.atlases, *study.fixed):
        hashes = study.records["check"][case.id].inputs
        label = label_of(study, case) if case.role == "atlas" else None
        jobs.append(
            PreprocessJob(
                case.id,
                study.call.output,
                "cpu",
                image=case.image,
                image_sha256=hashes["image"],
                label=None if label is None else label.path,
                label_sha256=None if label is None else label.sha256,
                settings=study.call.settings.preprocess,
            )
        )
    return jobs


def require_atlas(study: Study) -> None:
    """Refuse to go on if atlases are named and none is left.

    Raises
    ------
    NothingDoneError
        If the preparation of every atlas failed.
    """
    if study.cohort.atlases and not study.atlases:
        reasons = "; ".join(f"{case.id}: {study.failed.get(case.id)}" for case in study.cohort.atlases)
        raise NothingDoneError(f"no atlas could be prepared ({reasons})")
