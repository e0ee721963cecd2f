"""Decide: which of the fused label map, the networks' and their means becomes the segmentation of a case."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.io import read_image, read_labels, sha256_json
from covoxel.manifest import Record
from covoxel.segmentation.candidates import BY_COHORT, FUSION
from covoxel.segmentation.rivals import Chosen, Rivals, Standing
from tasks.facts import DecideFacts
from tasks.fuse import fused_places
from tasks.job import Artifact, Job, Made, work
from tasks.judge import judged_of
from tasks.options import TASK_OPTIONS
from tasks.results import result_facts, write_result
from tasks.study import Study

NO_NETWORK = "there is no label map of a network; the fused one is kept"


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
    said
        Facts of what networks said; empty where none said anything.
    """

    stage = "decide"
    facts = DecideFacts
    code = ("covoxel.io", "covoxel.metrics.volumes", "tasks.results", "tasks.decide")

    label_map: Artifact
    confidence: Artifact
    chosen: Chosen
    fused: Mapping[str, Any]
    said: Mapping[str, Any]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        known = {"fused_facts": sha256_json(dict(self.fused)), "said_facts": sha256_json(dict(self.said))}
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
    chosen, fused, said = job.chosen, job.fused, job.said
    found = {int(value) for value in fused["volumes_mm3"]} | set(said.get("values", []))
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
        **{name: dict(said.get(name, {})) for name in ("agreement", "agreement_of_structures", "spread")},
    }
    return Made(outputs, result_facts(label_map, confidence, sorted(found)) | facts)


def decide_jobs(study: Study) -> list[DecideJob]:
    """A job for each case that was fused, and flags where the network was asked for and is not used."""
    fused = {case.id: record for case in study.fixed if (record := study.record("fuse", case.id))}
    rivals, standings = rivals_of(study)
    segmenter = study.call.settings.segment.segmenter
    always = None if segmenter == "auto" else segmenter
    jobs = []
    for case, record in fused.items():
        chosen = rivals.choose(standings[case], always=always) if case in standings else _without(record)
        if chosen.flag:
            study.flag(case, chosen.flag)
        jobs.append(_job(study, case, record, chosen))
    return jobs


def rivals_of(study: Study) -> tuple[Rivals, dict[str, Standing]]:
    """What is known of the candidates, and of each case that networks have segmented."""
    standings: dict[str, Standing] = {}
    for case in study.fixed:
        fused, said = study.record("fuse", case.id), study.record("segment", case.id)
        if fused is not None and said is not None:
            empty = said.facts["empty"] if any(fused.facts["volumes_mm3"].values()) else ()
            others = study.record(BY_COHORT, case.id) is not None
            quality, agreement = fused.facts["quality"] or 0.0, said.facts["agreement"]
            standings[case.id] = Standing(quality, agreement, frozenset(empty), others)
    networks = tuple(next(iter(standings.values())).agreement) if standings else ()
    judged, cohort = list(judged_of(study).values()), list(standings.values())
    return Rivals.fit(networks, judged, cohort, len(study.atlases)), standings


def _without(fused: Record) -> Chosen:
    """What is chosen where the network said nothing."""
    quality = fused.facts["quality"] or 0.0
    return Chosen(FUSION, {FUSION: quality}, f"{NO_NETWORK[0].upper()}{NO_NETWORK[1:]}.", NO_NETWORK)


def _job(study: Study, case: str, fused: Record, chosen: Chosen) -> DecideJob:
    said = study.record("segment", case)
    if chosen.candidate == FUSION:
        stage, (label_map, confidence) = "fuse", fused_places(study.layout, case, apart=True)
    else:
        stage = BY_COHORT if chosen.candidate == BY_COHORT else "segment"
        label_map, confidence = study.layout.candidate(case, chosen.candidate)
    return DecideJob(
        case,
        study.call.output,
        "cpu",
        label_map=study.artifact(stage, case, label_map),
        confidence=study.artifact(stage, case, confidence),
        chosen=chosen,
        fused=fused.facts,
        said={} if said is None else said.facts,
    )
