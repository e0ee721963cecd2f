"""Decide: which of the fused label map, the network's, and that of both becomes the segmentation of a case."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task

from covoxel.io import read_image, read_labels, sha256_json
from covoxel.manifest import Record
from covoxel.segmentation.rivals import Chosen, Rivals, Standing
from tasks.fuse import fused_places
from tasks.job import Artifact, Job, Made, work
from tasks.judge import judged_of
from tasks.layout import Layout
from tasks.options import TASK_OPTIONS
from tasks.results import result_facts, write_result
from tasks.study import Study

NO_NETWORK = "there is no label map of a joint network; the fused one is kept"


@dataclass(frozen=True)
class DecideJob(Job):
    """A case and the result that was chosen for it.

    Parameters
    ----------
    label_map, confidence
        What becomes its segmentation.
    chosen
        Which candidate that is, and why.
    fused
        Facts of its fusion.
    joint
        Facts of what the network said; empty where it said nothing.
    """

    stage = "decide"
    code = ("covoxel.io", "covoxel.metrics.volumes", "tasks.results", "tasks.decide")

    label_map: Artifact
    confidence: Artifact
    chosen: Chosen
    fused: Mapping[str, Any]
    joint: Mapping[str, Any]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        known = {"fused_facts": sha256_json(dict(self.fused)), "joint_facts": sha256_json(dict(self.joint))}
        return {"label_map": self.label_map.sha256, "confidence": self.confidence.sha256, **known}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {
            "candidate": self.chosen.candidate,
            "predicted": dict(self.chosen.predicted),
            "reason": self.chosen.reason,
        }


@task(task_run_name="decide on {job.case}", **TASK_OPTIONS)
@work
def decide(job: DecideJob) -> Made:
    """Write the chosen label map and its confidence as the segmentation; the facts are those of a fusion, and more."""
    label_map, confidence = read_labels(job.label_map.path), read_image(job.confidence.path)
    outputs = write_result(label_map, confidence, (job.layout.segmentation(job.case), job.layout.confidence(job.case)))
    found = {int(value) for facts in (job.fused, job.joint) for value in facts.get("volumes_mm3", {})}
    chosen, fused = job.chosen, job.fused
    facts = {
        "quality": chosen.predicted[chosen.candidate],
        "candidate": chosen.candidate,
        "fusion_rule": fused["rule"],
        "rule": f"{chosen.candidate}: {fused['rule']}",
        "reason": chosen.reason,
        "predicted": dict(chosen.predicted),
        "predicted_of_rules": fused["predicted"],
        "atlases": fused["atlases"],
        "rejected": fused["rejected"],
        **({"corrected": True} if fused.get("corrected") else {}),
        "agreement": job.joint.get("agreement"),
        "agreement_of_structures": job.joint.get("agreement_of_structures", {}),
        "spread": job.joint.get("spread"),
    }
    return Made(outputs, result_facts(label_map, confidence, sorted(found)) | facts)


def decide_jobs(study: Study) -> list[DecideJob]:
    """A job for each case that was fused, and flags where the network was asked for and is not used."""
    fused = {case.id: record for case in study.fixed if (record := study.record("fuse", case.id))}
    rivals, standings = rivals_of(study)
    always = study.call.settings.segment.segmenter == "joint"
    jobs = []
    for case, record in fused.items():
        chosen = rivals.choose(standings[case], always_joint=always) if case in standings else _without(record)
        if chosen.flag:
            study.flag(case, chosen.flag)
        jobs.append(_job(study, case, record, chosen))
    return jobs


def rivals_of(study: Study) -> tuple[Rivals, dict[str, Standing]]:
    """What is known of the candidates, and of each case that the network has segmented."""
    standings = {}
    for case in study.fixed:
        fused, joint = study.record("fuse", case.id), study.record("segment", case.id)
        if fused is not None and joint is not None:
            empty = any(fused.facts["volumes_mm3"].values()) and not any(joint.facts["volumes_mm3"].values())
            standings[case.id] = Standing(fused.facts["quality"] or 0.0, joint.facts["agreement"], empty)
    return Rivals.fit(list(judged_of(study).values()), list(standings.values())), standings


def _without(fused: Record) -> Chosen:
    """What is chosen where the network said nothing."""
    quality = fused.facts["quality"] or 0.0
    return Chosen("fusion", {"fusion": quality}, f"{NO_NETWORK[0].upper()}{NO_NETWORK[1:]}.", NO_NETWORK)


def _job(study: Study, case: str, fused: Record, chosen: Chosen) -> DecideJob:
    joint = study.record("segment", case)
    stage = "fuse" if chosen.candidate == "fusion" else "segment"
    label_map, confidence = _places(study.layout, case, chosen.candidate)
    return DecideJob(
        case,
        study.call.output,
        "cpu",
        label_map=study.artifact(stage, case, label_map),
        confidence=study.artifact(stage, case, confidence),
        chosen=chosen,
        fused=fused.facts,
        joint={} if joint is None else joint.facts,
    )


def _places(layout: Layout, case: str, candidate: str) -> tuple[Path, Path]:
    """Where label map and confidence of a candidate lie."""
    return {
        "fusion": fused_places(layout, case, apart=True),
        "joint": (layout.joint_segmentation(case), layout.joint_confidence(case)),
        "both": (layout.both_segmentation(case), layout.both_confidence(case)),
    }[candidate]
