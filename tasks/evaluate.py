"""Evaluate: label maps held against true labels that nothing but scoring has read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from prefect import task

from covoxel.io import read_labels, sha256_file
from covoxel.metrics import dice
from tasks.job import Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.register import driving_label_map
from tasks.same_labels import same_labels
from tasks.study import Study


@dataclass(frozen=True)
class EvaluateJob(Job):
    """A segmentation and the truth, and the label map that drove the registrations of the case, if one did."""

    stage = "evaluate"
    code = ("covoxel.io", "covoxel.metrics", "tasks.same_labels", "tasks.evaluate")

    segmentation: Artifact
    truth: Artifact
    driving: Artifact | None = None

    vital = False

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        driving = {} if self.driving is None else {"driving": self.driving.sha256}
        return {"segmentation": self.segmentation.sha256, "truth": self.truth.sha256, **driving}


@task(task_run_name="evaluate {job.case}", **TASK_OPTIONS)
@work
def evaluate(job: EvaluateJob) -> Made:
    """Dice of each structure, in the facts of the record; labels that drove the warps do not score them."""
    found, truth = read_labels(job.segmentation.path), read_labels(job.truth.path)
    if job.driving is not None and same_labels(read_labels(job.driving.path), truth):
        raise ValueError("its true label drove its registration and cannot score it")
    if not found.grid.isclose(truth.grid, 0.05 * float(found.grid.spacing_mm.min())):
        raise ValueError(
            f"{job.truth.path.name}: the true label lies on another grid than the image "
            f"({truth.grid.shape} voxels, the image has {found.grid.shape}); both must be equal"
        )
    values = torch.unique(torch.cat([found.data.reshape(-1), truth.data.reshape(-1)])).tolist()
    scores = dice(found.data, truth.data, values)
    return Made([], {"dice": {str(value): number(score) for value, score in scores.items()}})


def evaluate_jobs(study: Study) -> list[EvaluateJob]:
    """A job for each segmented case that is no atlas and has a true label."""
    jobs = []
    for case in study.fixed if study.truth is not None else ():
        if study.truth is None or case.id not in study.truth:
            study.flag(case.id, "no true label")
            continue
        truth = study.truth.path(case.id)
        segmentation = study.artifact("fuse", case.id, study.layout.segmentation(case.id))
        true = Artifact(truth, sha256_file(truth))
        driving = driving_label_map(study, case.id)
        jobs.append(EvaluateJob(case.id, study.call.output, "cpu", segmentation, true, driving))
    return jobs
