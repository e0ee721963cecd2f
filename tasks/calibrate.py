"""Calibrate: each atlas is labelled by the others, and how well that goes teaches what to expect elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from prefect import task

from covoxel.fusion.atlas_choice import dice_by_count, likeness_scores
from covoxel.fusion.calibration import Calibration
from covoxel.fusion.candidates import VOTE
from covoxel.fusion.choice import Selector
from covoxel.fusion.facts import Fact, facts_from_json, facts_of, facts_to_json
from covoxel.io import read_labels
from tasks.candidates import rules_of, voters
from tasks.evidence import CaseFiles, case_files, labels_of_cells, open_evidence
from tasks.facts import CalibrateFacts
from tasks.job import Artifact, Job, Made, number, work
from tasks.learn import learnt_parameters
from tasks.options import TASK_OPTIONS
from tasks.settings import AtlasSettings, FuseSettings
from tasks.study import Study

COUNTS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 50, 100)


@dataclass(frozen=True)
class CalibrateJob(Job):
    """An atlas and the others that were brought onto it.

    Parameters
    ----------
    files
        What is read of the atlas as a case.
    truth
        Its own label map on the same grid.
    settings
        The candidates.
    voting
        How many atlases vote at most, and by what they are chosen.
    learnt
        Raw data parameter of each atlas; empty where none were learnt.
    """

    stage = "calibrate"
    facts = CalibrateFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses.box",
        "covoxel.metrics.dice",
        "covoxel.fusion",
        "covoxel.registration.pyramid",
        "tasks.evidence",
        "tasks.candidates",
        "tasks.calibrate",
    )
    vital = False

    files: CaseFiles
    truth: Artifact
    settings: FuseSettings
    voting: AtlasSettings
    learnt: Mapping[str, float]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return self.files.hashes() | {"truth": self.truth.sha256}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {
            "candidates": list(self.settings.candidates),
            "judge_voxels": self.settings.judge_voxels,
            "atlases": self.voting.model_dump(mode="json"),
            "learnt": dict(self.learnt),
        }


@task(task_run_name="calibrate on {job.case}", **TASK_OPTIONS)
@work
def calibrate(job: CalibrateJob) -> Made:
    """Find the signs and the true Dice of every candidate, and the Dice of fewer atlases, as facts."""
    with open_evidence(job.files, job.device, job.layout.scratch, job.settings.judge_voxels) as (fixed, source):
        truth = labels_of_cells(read_labels(job.truth.path), job.settings.judge_voxels)
        scores = likeness_scores(source)
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        counts = [count for count in COUNTS if count < len(order)] + [len(order)]
        curve = dice_by_count(source, truth, order, rule=VOTE, counts=counts)
        voting, choice = voters(source, job.files.names, job.voting, job.learnt)
        rules = rules_of(job.settings, job.learnt, choice.kept)
        seed = int(sha256(job.case.encode()).hexdigest()[:8], 16)
        facts = facts_of(job.case, voting, truth, rules, seed=seed)
    return Made(
        [], {"facts": facts_to_json(facts), "curve": {str(count): number(dice) for count, dice in curve.items()}}
    )


def calibrate_jobs(study: Study) -> list[CalibrateJob]:
    """A job for each atlas onto which the others were brought, if results are to be predicted."""
    jobs = []
    for atlas in study.labelled_atlases if study.calibrates else ():
        registered = study.record("register", atlas.id)
        if registered is None or not registered.facts["transforms"]:
            continue
        others = sorted(registered.facts["transforms"])
        jobs.append(
            CalibrateJob(
                atlas.id,
                study.call.output,
                study.device,
                files=case_files(study, atlas.id, others),
                truth=study.artifact("preprocess", atlas.id, study.layout.preprocessed_labels(atlas.id)),
                settings=study.call.settings.fuse,
                voting=study.call.settings.atlases,
                learnt=learnt_parameters(study, atlas.id),
            )
        )
    return jobs


def selector_of(study: Study, *, without: str | None = None) -> Selector:
    """What all atlases taught about the rules; all but one, where that one is a case itself."""
    return Selector.fit(fact for fact in _facts(study) if fact.case != without)


def leave_one_out(study: Study) -> list[tuple[Fact, float]]:
    """What was found on each atlas, beside the Dice predicted for it from all other atlases."""
    facts = _facts(study)
    found = []
    for case in sorted({fact.case for fact in facts}):
        others = Calibration.fit([fact for fact in facts if fact.case != case])
        found += [(fact, others.predict(fact.signs, fact.rule).dice) for fact in facts if fact.case == case]
    return found


def _facts(study: Study) -> list[Fact]:
    records = study.records.get("calibrate", {})
    return [fact for case in sorted(records) for fact in facts_from_json(records[case].facts["facts"])]
