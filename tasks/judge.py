"""Judge: what fusion, the joint network and both are worth on atlases that the network's training held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.fusion.candidates import candidates
from covoxel.fusion.choice import Selector
from covoxel.io import read_labels
from covoxel.segmentation.combine import Labelled, combine
from covoxel.segmentation.rivals import Judged
from covoxel.spatial import Image
from tasks.calibrate import selector_of
from tasks.candidates import rules_of, voters
from tasks.correction import correction_of
from tasks.evidence import CaseFiles, case_files, read_evidence
from tasks.job import Artifact, Job, Made, work
from tasks.joint_facts import joint_facts
from tasks.learn import learnt_parameters
from tasks.options import TASK_OPTIONS
from tasks.same_labels import content_of
from tasks.segment import Network, mean_overlap, model_folder, network_of, overlaps
from tasks.settings import AtlasSettings, FuseSettings
from tasks.study import Study
from tasks.train_joint import STAGE
from tasks.trainings import job_name


@dataclass(frozen=True)
class JudgeJob(Job):
    """An atlas that taught the network nothing, and the others that were brought onto it.

    Parameters
    ----------
    files
        What is read of the atlas as a case.
    truth
        Its own label map on the same grid.
    network
        What segments; it does not see this atlas' labels.
    settings, voting, learnt
        How the others are fused; see `FuseJob`.
    selector
        What the other atlases taught about the rules, as JSON.
    """

    stage = "judge"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses.box",
        "covoxel.metrics.dice",
        "covoxel.preprocessing",
        "covoxel.registration",
        "covoxel.fusion",
        "covoxel.segmentation",
        "tasks.evidence",
        "tasks.candidates",
        "tasks.joint_models",
        "tasks.segment",
        "tasks.judge",
    )
    vital = False

    files: CaseFiles
    truth: Artifact
    network: Network
    settings: FuseSettings
    voting: AtlasSettings
    learnt: Mapping[str, float]
    selector: Mapping[str, Any]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        seen = {f"network.{name}": sha for name, sha in self.network.hashes().items()}
        return self.files.hashes() | {"truth": self.truth.sha256} | seen

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {
            "fuse": self.settings.fusing(),
            "atlases": self.voting.model_dump(mode="json"),
            "learnt": dict(self.learnt),
            "selector": dict(self.selector),
            "views": self.network.views,
        }


@task(task_run_name="judge by {job.case}", **TASK_OPTIONS)
@work
def judge(job: JudgeJob) -> Made:
    """Find the true Dice of all candidates, as facts; the atlas is fused from the others."""
    fixed, evidence = read_evidence(job.files, job.device)
    evidence, choice = voters(evidence, job.files.names, job.voting, job.learnt)
    results = candidates(evidence, rules_of(job.settings, job.learnt, choice.kept))
    fused = Selector.from_json(job.selector).select(evidence, results).fused
    label_map, confidence = Image(fused.label_map.cpu(), fixed.grid), Image(fused.confidence.cpu(), fixed.grid)
    found = job.network.says(fixed.to("cpu"), fixed.grid, job.device)
    together = combine(found, Labelled(label_map, confidence))
    truth, values = read_labels(job.truth.path), found.values.tolist()
    maps = {"fusion": label_map, "joint": together.joint.label_map, "both": together.both.label_map}
    scores = {name: mean_overlap(overlaps(each, truth, values)) for name, each in maps.items()}
    return Made([], {"dice": scores})


def judge_jobs(study: Study) -> list[JudgeJob]:
    """A job for each atlas that taught the network nothing and onto which the others were brought."""
    jobs = []
    for atlas in _held_out(study):
        registered, network = study.record("register", atlas), network_of(study, without=atlas)
        if network is None or registered is None or not registered.facts["transforms"]:
            continue
        jobs.append(
            JudgeJob(
                atlas,
                study.call.output,
                study.device,
                files=case_files(study, atlas, sorted(registered.facts["transforms"])),
                truth=study.artifact("preprocess", atlas, study.layout.preprocessed_labels(atlas)),
                network=network,
                settings=study.call.settings.fuse,
                voting=study.call.settings.atlases,
                learnt=learnt_parameters(study, atlas),
                selector=selector_of(study, without=atlas).to_json(),
            )
        )
    return jobs


def judged_of(study: Study) -> dict[str, Judged]:
    """What was found, by id of the atlas.

    An atlas taught the correction of fused labels, if there is one, and can only be fused without it: fusion is
    credited with what a correction gained on atlases that it had not seen.
    """
    correction = correction_of(study)
    found = {case: dict(record.facts["dice"]) for case, record in sorted(study.records.get("judge", {}).items())}
    known = {case: dice for case, dice in found.items() if None not in dice.values()}
    if correction is not None:
        known = {case: dice | {"fusion": correction.quality(dice["fusion"])} for case, dice in known.items()}
    return {case: Judged(**dice) for case, dice in known.items()}


def _held_out(study: Study) -> list[str]:
    """Ids of the atlases that taught the network no label: those its training held out, or those it never saw."""
    folder, ids = model_folder(study), [atlas.id for atlas in study.atlases]
    if folder is None:
        return []
    if study.joint_recipe is not None:
        record = study.record(STAGE, job_name(study.joint_recipe.name))
        scores = [] if record is None else record.facts["scores"].values()
        return [case for case in ids if any(case in rows for rows in scores)]
    taught = joint_facts(folder).taught_by
    contents = {atlas.id: content_of(read_labels(atlas.training_label())) for atlas in study.atlases}
    return [case for case in ids if not any(contents[case].same(each) for each in taught)]
