"""Relabel: fused labels give way to a model's where it is surer than the fusion and did not see the case."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.external.nnunet import surer
from covoxel.io import read_image, read_labels
from tasks.fuse import fused_places
from tasks.job import Artifact, Job, Made, number, work
from tasks.nnunet_network import NnunetNetwork, fold_networks
from tasks.options import TASK_OPTIONS
from tasks.results import write_result
from tasks.scan import Scan, scan_of
from tasks.study import Study

STAGE = "relabel"


@dataclass(frozen=True)
class RelabelJob(Job):
    """A case, its fused label map, and the fold that did not see either.

    Parameters
    ----------
    scan
        Its images.
    fused, confidence
        What fusion made of it.
    network
        The fold.
    """

    stage = STAGE
    code = ("covoxel.external.nnunet", "covoxel.segmentation", "tasks.nnunet_network", "tasks.relabel")
    vital = False

    scan: Scan
    fused: Artifact
    confidence: Artifact
    network: NnunetNetwork

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        own = {"fused": self.fused.sha256, "confidence": self.confidence.sha256}
        return self.scan.hashes() | own | self.network.hashes()

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.network.facts()


@task(task_run_name="relabel {job.case}", **TASK_OPTIONS)
@work
def relabel(job: RelabelJob) -> Made:
    """Write the label map that teaches the second round, and its confidence."""
    fused, confidence = read_labels(job.fused.path), read_image(job.confidence.path)
    found = surer(fused, confidence, job.network.says(job.scan, fused.grid, job.device))
    outputs = write_result(found.label_map, found.confidence, job.layout.relabelled(job.case))
    return Made(outputs, {"replaced": number(found.replaced)})


def relabel_jobs(study: Study) -> list[RelabelJob]:
    """A job for each fused case that some fold held out."""
    networks, jobs = fold_networks(study, round_=1), []
    for case in study.fixed:
        if case.id not in networks or study.record("fuse", case.id) is None:
            continue
        label, confidence = fused_places(study.layout, case.id, study.fuses_apart)
        jobs.append(
            RelabelJob(
                case.id,
                study.call.output,
                study.device,
                scan=scan_of(study, case.id),
                fused=study.artifact("fuse", case.id, label),
                confidence=study.artifact("fuse", case.id, confidence),
                network=networks[case.id],
            )
        )
    return jobs
