"""Judge: what fusion, networks and their means are worth on atlases that taught those networks nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.fusion.choice import Selector
from covoxel.io import read_labels
from covoxel.segmentation.candidates import FUSION
from covoxel.segmentation.combine import Labelled, combine
from covoxel.spatial import Image
from tasks.calibrate import selector_of
from tasks.correction import correction_of
from tasks.evidence import CaseFiles, case_files
from tasks.facts import DiceFacts
from tasks.fusion import Question, open_fusion
from tasks.job import Artifact, Job, Made, work
from tasks.learn import learnt_parameters
from tasks.networks import Networks, all_say, facts_of, hashes_of, judges_of
from tasks.options import TASK_OPTIONS
from tasks.results import mean_known
from tasks.scan import Scan, scan_of
from tasks.segment import overlaps
from tasks.settings import AtlasSettings, FuseSettings
from tasks.study import Study


@dataclass(frozen=True)
class JudgeJob(Job):
    """An atlas that taught the network nothing, and the others that were brought onto it.

    Parameters
    ----------
    files
        What is read of the atlas as a case.
    scan
        Its images.
    truth
        Its own label map on the same grid.
    networks
        What segments, by name; none of them has seen this atlas' labels.
    settings, voting, learnt
        How the others are fused; see `FuseJob`.
    selector
        What the other atlases taught about the rules, as JSON.
    """

    stage = "judge"
    facts = DiceFacts
    code = (
        "covoxel.spatial",
        "covoxel.external.nnunet",
        "covoxel.io",
        "covoxel.losses.box",
        "covoxel.metrics.dice",
        "covoxel.preprocessing",
        "covoxel.registration",
        "covoxel.fusion",
        "covoxel.segmentation",
        "tasks.evidence",
        "tasks.candidates",
        "tasks.fusion",
        "tasks.joint_models",
        "tasks.joint_network",
        "tasks.networks",
        "tasks.nnunet_network",
        "tasks.segment",
        "tasks.judge",
    )
    vital = False

    files: CaseFiles
    scan: Scan
    truth: Artifact
    networks: Networks
    settings: FuseSettings
    voting: AtlasSettings
    learnt: Mapping[str, float]
    selector: Mapping[str, Any]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return self.files.hashes() | self.scan.hashes() | {"truth": self.truth.sha256} | hashes_of(self.networks)

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {
            "fuse": self.settings.fusing(),
            "atlases": self.voting.model_dump(mode="json"),
            "learnt": dict(self.learnt),
            "selector": dict(self.selector),
            "networks": facts_of(self.networks),
        }


@task(task_run_name="judge by {job.case}", **TASK_OPTIONS)
@work
def judge(job: JudgeJob) -> Made:
    """Find the true Dice of all candidates, as facts; the atlas is fused from the others."""
    question = Question(job.settings, job.voting, job.learnt, Selector.from_json(job.selector))
    with open_fusion(job.files, question, job.device, job.layout.scratch) as found:
        fixed, fused = found.fixed, found.fused
    label_map, confidence = Image(fused.label_map.cpu(), fixed.grid), Image(fused.confidence.cpu(), fixed.grid)
    said = all_say(job.networks, job.scan, fixed.grid, job.device)
    values = next(iter(said.values())).values.tolist()
    maps = {name: each.label_map for name, each in combine(said, Labelled(label_map, confidence)).items()}
    truth = read_labels(job.truth.path)
    scores = {
        name: mean_known(overlaps(each, truth, values).values()) for name, each in {FUSION: label_map, **maps}.items()
    }
    return Made([], {"dice": scores})


def judge_jobs(study: Study) -> list[JudgeJob]:
    """A job for each atlas that taught some network nothing and onto which the others were brought."""
    jobs = []
    for atlas, networks in judges_of(study).items():
        registered = study.record("register", atlas)
        if registered is None or not registered.facts["transforms"]:
            continue
        jobs.append(
            JudgeJob(
                atlas,
                study.call.output,
                study.device,
                files=case_files(study, atlas, sorted(registered.facts["transforms"])),
                scan=scan_of(study, atlas),
                truth=study.artifact("preprocess", atlas, study.layout.preprocessed_labels(atlas)),
                networks=networks,
                settings=study.call.settings.fuse,
                voting=study.call.settings.atlases,
                learnt=learnt_parameters(study, atlas),
                selector=selector_of(study, without=atlas).to_json(),
            )
        )
    return jobs


def judged_of(study: Study) -> dict[str, dict[str, float]]:
    """True Dice of fusion, the networks that an atlas taught nothing and their means, by id of the atlas.

    An atlas taught the correction of fused labels, if there is one, and can only be fused without it: fusion is
    credited with what a correction gained on atlases that it had not seen.
    """
    correction = correction_of(study)
    found = {case: dict(record.facts["dice"]) for case, record in sorted(study.records.get("judge", {}).items())}
    known = {case: dice for case, dice in found.items() if None not in dice.values()}
    if correction is not None:
        known = {case: dice | {FUSION: correction.quality(dice[FUSION])} for case, dice in known.items()}
    return known
