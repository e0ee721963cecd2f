"""Evaluate: label maps held against true labels that nothing but scoring has read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from prefect import task

from covoxel.io import read_labels, sha256_json
from covoxel.metrics import dice
from data_catalog.files import sha256_of
from tasks.atlas_label import without_value
from tasks.facts import DiceFacts
from tasks.job import Artifact, Job, Made, number, work
from tasks.joint_facts import joint_facts
from tasks.joint_network import model_folder
from tasks.models import labels_that_taught
from tasks.nnunet_network import taught_by as taught_by_of_nnunet
from tasks.options import TASK_OPTIONS
from tasks.register import driving_label_map
from tasks.same_labels import LabelContent, content_of, same_labels
from tasks.study import Study


@dataclass(frozen=True)
class EvaluateJob(Job):
    """A segmentation and the truth, and what may not be the truth.

    Parameters
    ----------
    segmentation, truth
        The label maps that are compared.
    driving
        The label map that drove the registrations of the case, if one did.
    taught_by
        The label maps that the network which registered has learnt from.
    taught_segmenter
        Those that the network which segments has learnt from.
    ignore
        Value of voxels without a true label, which do not count; None if the cohort has none.
    """

    stage = "evaluate"
    facts = DiceFacts
    code = ("covoxel.io", "covoxel.metrics", "tasks.atlas_label", "tasks.same_labels", "tasks.evaluate")

    segmentation: Artifact
    truth: Artifact
    driving: Artifact | None = None
    taught_by: tuple[LabelContent, ...] = ()
    taught_segmenter: tuple[LabelContent, ...] = ()
    ignore: int | None = None

    vital = False

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        inputs = {"segmentation": self.segmentation.sha256, "truth": self.truth.sha256}
        if self.driving is not None:
            inputs["driving"] = self.driving.sha256
        for name, label_maps in (("taught_by", self.taught_by), ("taught_segmenter", self.taught_segmenter)):
            if label_maps:
                inputs[name] = sha256_json([label_map.plain() for label_map in label_maps])
        return inputs

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {} if self.ignore is None else {"ignore": self.ignore}


@task(task_run_name="evaluate {job.case}", **TASK_OPTIONS)
@work
def evaluate(job: EvaluateJob) -> Made:
    """Dice of each structure, in the facts of the record; labels that drove or taught the warps do not score them."""
    found, drawn = read_labels(job.segmentation.path), read_labels(job.truth.path)
    truth = without_value(drawn, job.ignore)
    if job.driving is not None and same_labels(read_labels(job.driving.path), truth):
        raise ValueError("its true label drove its registration and cannot score it")
    true = content_of(truth)
    for does, label_maps in (("registered", job.taught_by), ("segmented", job.taught_segmenter)):
        if any(true.same(label_map) for label_map in label_maps):
            raise ValueError(f"its true label trained the network that {does} it and cannot score it")
    if not found.grid.isclose(truth.grid, 0.05 * float(found.grid.spacing_mm.min())):
        raise ValueError(
            f"{job.truth.path.name}: the true label lies on another grid than the image "
            f"({truth.grid.shape} voxels, the image has {found.grid.shape}); both must be equal"
        )
    if job.ignore is not None:
        found = replace(found, data=found.data.masked_fill(drawn.data == job.ignore, 0))
    values = torch.unique(torch.cat([found.data.reshape(-1), truth.data.reshape(-1)])).tolist()
    scores = dice(found.data, truth.data, values)
    return Made([], {"dice": {str(value): number(score) for value, score in scores.items()}})


def evaluate_jobs(study: Study) -> list[EvaluateJob]:
    """A job for each segmented case that is no atlas and has a true label."""
    jobs, network, segmenter = [], study.call.settings.register_.model, model_folder(study)
    taught_by = () if network is None else labels_that_taught(network)
    taught_segmenter = () if segmenter is None else joint_facts(segmenter).taught_by
    taught_segmenter += taught_by_of_nnunet(study)
    for case in study.fixed if study.truth is not None else ():
        if study.truth is None or case.id not in study.truth:
            study.flag(case.id, "no true label")
            continue
        truth = study.truth.path(case.id)
        stage = study.final_stage(case.id)
        segmentation = study.artifact(stage, case.id, study.layout.segmentation(case.id))
        true = Artifact(truth, sha256_of(truth))
        driving = driving_label_map(study, case.id)
        jobs.append(
            EvaluateJob(
                case.id,
                study.call.output,
                "cpu",
                segmentation,
                true,
                driving,
                taught_by,
                taught_segmenter,
                study.cohort.ignore,
            )
        )
    return jobs
