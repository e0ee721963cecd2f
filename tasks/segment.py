"""Segment: what trained networks say of each case, and how far each agrees with the fused label map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from prefect import task

from covoxel.io import read_image, read_labels
from covoxel.metrics import dice
from covoxel.segmentation.combine import Labelled, combine
from covoxel.spatial import Image
from tasks.facts import SegmentFacts
from tasks.fuse import fused_places
from tasks.job import Artifact, Job, Made, number, work
from tasks.networks import Networks, all_say, facts_of, hashes_of, networks_of
from tasks.options import TASK_OPTIONS
from tasks.results import mean_known, write_result
from tasks.scan import Scan, scan_of
from tasks.study import Study


@dataclass(frozen=True)
class SegmentJob(Job):
    """A case, the networks, and its fused label map.

    Parameters
    ----------
    scan
        Its images.
    fused, fused_confidence
        What fusion made of the case, on the case's own grid.
    networks
        What segments, by name.
    """

    stage = "segment"
    facts = SegmentFacts
    code = (
        "covoxel.spatial",
        "covoxel.external.nnunet",
        "covoxel.io",
        "covoxel.fusion.base",
        "covoxel.metrics",
        "covoxel.preprocessing",
        "covoxel.registration",
        "covoxel.segmentation",
        "tasks.joint_models",
        "tasks.joint_network",
        "tasks.networks",
        "tasks.nnunet_network",
        "tasks.results",
        "tasks.segment",
    )
    vital = False

    scan: Scan
    fused: Artifact
    fused_confidence: Artifact
    networks: Networks

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        own = {"fused": self.fused.sha256, "confidence": self.fused_confidence.sha256}
        return self.scan.hashes() | own | hashes_of(self.networks)

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return facts_of(self.networks)


@task(task_run_name="segment {job.case}", **TASK_OPTIONS)
@work
def segment(job: SegmentJob) -> Made:
    """Write the label map of every candidate but fusion, each with the confidence of all of them."""
    fused = Labelled(read_labels(job.fused.path), read_image(job.fused_confidence.path))
    said = all_say(job.networks, job.scan, fused.label_map.grid, job.device)
    found = combine(said, fused)
    values = next(iter(said.values())).values.tolist()
    outputs: list[Path] = []
    for name, result in found.items():
        outputs += write_result(result.label_map, result.confidence, job.layout.candidate(job.case, name))
    agreement = {name: overlaps(found[name].label_map, fused.label_map, values) for name in said}
    scores = {name: mean_known(each.values()) for name, each in agreement.items()}
    facts = {
        "agreement": scores,
        "agreement_of_structures": {
            name: {str(value): score for value, score in each.items()} for name, each in agreement.items()
        },
        "spread": {name: number(each.spread) for name, each in said.items()},
        "values": values,
        "empty": sorted(name for name in said if not bool(found[name].label_map.data.any())),
    }
    return Made(outputs, facts)


def overlaps(first: Image, second: Image, values: Sequence[int]) -> dict[int, float]:
    """Dice of two label maps on one grid, of each structure that is in either."""
    return {value: score for value, score in dice(first.data, second.data, values).items() if isfinite(score)}


def segment_jobs(study: Study) -> list[SegmentJob]:
    """A job for each case that was fused, if there is a network."""
    networks = networks_of(study)
    if not networks:
        return []
    layout, jobs = study.layout, []
    for case in study.fixed:
        if study.record("fuse", case.id) is None:
            continue
        label_map, confidence = fused_places(layout, case.id, study.fuses_apart)
        jobs.append(
            SegmentJob(
                case.id,
                study.call.output,
                study.device,
                scan=scan_of(study, case.id),
                fused=study.artifact("fuse", case.id, label_map),
                fused_confidence=study.artifact("fuse", case.id, confidence),
                networks=networks,
            )
        )
    return jobs
