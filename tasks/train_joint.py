"""Train networks that register and segment, each by the other, on the cohort; the long job of `train-joint`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from prefect import task

from covoxel.io import write_table, write_text
from covoxel.training.joint import JointRecipe
from covoxel.training.registration import TrainingDivergedError
from nets.joint.cross_stitch import CrossStitch
from tasks.align import reference_of, training_ids
from tasks.atlas_label import label_of
from tasks.facts import JointTrainingFacts
from tasks.job import Job, Made, number, work
from tasks.joint_card import JointCardFacts, joint_card
from tasks.joint_facts import plain_verdict
from tasks.joint_models import NETWORK, save_joint
from tasks.joint_recipe import AnyJointRecipe, joint_recipe_data
from tasks.joint_training import How, JointOutcome, train_jointly
from tasks.model_card import Run
from tasks.options import TASK_OPTIONS
from tasks.settings import TrainSettings
from tasks.study import Study
from tasks.training_files import Reading, TrainingFiles, files_of, input_hashes, read_cases
from tasks.trainings import THREADS, Tell, clear_logs, job_name

STAGE = "train-joint"


@dataclass(frozen=True)
class TrainJointJob(Job):
    """A recipe of two networks and all cases that train.

    Parameters
    ----------
    files
        What is read of each case, by id, atlases first.
    reference
        Id of the case onto which the others were brought.
    recipe
        How to train.
    names
        Of structures, by label, for the model card and the alarm.
    settings
        Precision.
    tell
        Told of each step.
    """

    stage = STAGE
    facts = JointTrainingFacts
    code: ClassVar[tuple[str, ...]] = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.metrics",
        "covoxel.preprocessing",
        "covoxel.training.augmentation",
        "covoxel.training.averaging",
        "covoxel.training.joint",
        "covoxel.training.registration",
        "covoxel.training.seeds",
        "covoxel.training.tally",
        "nets.blocks",
        "nets.joint",
        "nets.registration",
        "nets.segmentation",
        "tasks.joint_facts",
        "tasks.joint_models",
        "tasks.joint_recipe",
        "tasks.joint_training",
        "tasks.models",
        "tasks.recipe",
        "tasks.recipe_parsing",
        "tasks.same_labels",
        "tasks.teaching",
        "tasks.train_joint",
        "tasks.training_files",
        "tasks.weights",
    )
    vital = False

    files: Mapping[str, TrainingFiles]
    reference: str
    recipe: AnyJointRecipe
    names: Mapping[int, str]
    settings: TrainSettings = TrainSettings()
    tell: Tell | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return input_hashes(self.files)

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on; label maps are known by the content of their files."""
        return {
            "recipe": joint_recipe_data(self.recipe),
            "reference": self.reference,
            "subjects": {case: files.subject for case, files in self.files.items()},
            "precision": self.settings.precision,
        }


@dataclass(frozen=True)
class TrainJointNetJob(TrainJointJob):
    """A recipe of one network and all cases that train."""

    code = (*TrainJointJob.code, "covoxel.training.joint_net")


@task(task_run_name="train {job.recipe.name}", **TASK_OPTIONS)
@work
def train(job: TrainJointJob) -> Made:
    """Write networks, recipe, learning curve and model card; goes on from a checkpoint if it was killed."""
    started = time.perf_counter()
    reading = read_cases(job.files, job.reference, job.recipe.registration.alignment, apart=True)
    checkpoint, logs = job.layout.checkpoint(job.fingerprint()), job.layout.logs(job.recipe.name)
    resumed = bool(_checkpoints(checkpoint))
    if not resumed:
        clear_logs(logs)
    torch.set_num_threads(THREADS)
    try:
        how = How(job.device, job.settings.precision, checkpoint, logs, job.tell)
        outcome = train_jointly(job.recipe, reading, job.names, how)
    except TrainingDivergedError as error:
        raise ValueError(str(error)) from error
    run = Run(time.perf_counter() - started, job.device, job.settings.precision, 1, resumed)
    outputs = _write(job, outcome, reading, run)
    for path in _checkpoints(checkpoint):
        path.unlink()
    return Made(outputs, _facts(outcome, reading))


def train_jobs(study: Study, tell: Tell | None = None) -> list[TrainJointJob]:
    """The one job, if there is a joint recipe."""
    ids, recipe = training_ids(study), study.joint_recipe
    if recipe is None or not ids:
        return []
    kind = TrainJointJob if isinstance(recipe, JointRecipe) else TrainJointNetJob
    return [
        kind(
            job_name(recipe.name),
            study.call.output,
            study.device,
            files={case: _files(study, case) for case in ids},
            reference=reference_of(study),
            recipe=recipe,
            names=study.cohort.label_names,
            settings=study.call.settings.train,
            tell=tell,
        )
    ]


def training_lines(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """How a training went, in words, of the facts of its record."""
    fused = f", {facts['fused']} with fused ones" if facts["fused"] else ""
    line = f"trained on {facts['cases']} cases, {facts['drawn']} with labels of their own{fused}"
    left_out = [f"{case}: {reason}" for case, reason in sorted(facts["left_out"].items())]
    return (line, *(verdict["sentence"] for verdict in facts["verdicts"]), *facts["notes"], *left_out)


def _files(study: Study, case: str) -> TrainingFiles:
    own = study.cohort.case(case)
    files = files_of(study, own)
    if own.role == "atlas":
        return replace(files, labels=label_of(study, own))
    if not study.teaches_fused or study.record("fuse", case) is None:
        return files
    label_map, confidence = (
        study.artifact("fuse", case, path) for path in (study.layout.fused(case), study.layout.fused_confidence(case))
    )
    return replace(files, predicted=label_map, confidence=confidence)


def _write(job: TrainJointJob, outcome: JointOutcome, reading: Reading, run: Run) -> list[Path]:
    folder, lesson, recipe = job.layout.model(job.recipe.name), reading.lesson, outcome.recipe
    facts = JointCardFacts(
        outcome,
        reading.frame.shape,
        reading.frame.spacing_mm,
        cases=list(job.files),
        drawn=len(lesson.contents) - len(reading.fused),
        fused=len(reading.fused),
        partial=_partial(reading),
        left_out=len(lesson.left_out),
        structures=[job.names.get(value) or str(value) for value in lesson.values if value],
        run=run,
    )
    how: dict[str, Any] = {"cases": len(facts.cases), "labelled": facts.drawn, "fused": facts.fused}
    how |= {"seed": recipe.seed, "device": run.device, "precision": run.precision, "seconds": round(run.seconds, 1)}
    more = [folder / "curve.tsv", folder / "README.md"]
    write_table(more[0], outcome.curve)
    write_text(more[1], joint_card(facts))
    saved = save_joint(
        folder,
        recipe,
        outcome.networks,
        values=lesson.values,
        ndim=len(facts.shape),
        spacing_mm=facts.spacing_mm,
        verdicts=outcome.verdicts,
        notes=outcome.notes,
        trained=how,
        taught_by=lesson.contents,
    )
    return [*more, *saved]


def _partial(reading: Reading) -> int:
    """How many label maps of atlases lack structures that others of them have."""
    found = [set(torch.unique(case.labels).tolist()) - {0} for case in reading.cases if case.labels is not None]
    everything = set().union(*found)
    return sum(own != everything for own in found)


def _facts(outcome: JointOutcome, reading: Reading) -> dict[str, Any]:
    return {
        "cases": len(reading.cases),
        "drawn": len(reading.lesson.contents) - len(reading.fused),
        "fused": len(reading.fused),
        "values": list(reading.lesson.values),
        "verdicts": [plain_verdict(verdict) for verdict in outcome.verdicts],
        "scores": {name: _plain(scores, reading) for name, scores in outcome.scores.items()},
        "alphas": _alphas(outcome),
        "notes": list(outcome.notes),
        "left_out": reading.lesson.left_out,
    }


def _alphas(outcome: JointOutcome) -> dict[str, Any]:
    """Stitch units by place, `[[α_SS, α_SR], [α_RS, α_RR]]` of each channel; of networks that have some."""
    network = outcome.networks.get(NETWORK)
    matrices = network.stitch_matrices() if isinstance(network, CrossStitch) else {}
    return {place: [[[round(a, 6) for a in row] for row in one] for one in m.tolist()] for place, m in matrices.items()}


def _plain(scores: pd.DataFrame, reading: Reading) -> dict[str, dict[str, float | None]]:
    """Dice by case and value of the label."""
    rows = scores.set_axis([str(value) for value in reading.lesson.values[1:]], axis="columns").to_dict("index")
    return {str(case): {str(value): number(dice) for value, dice in row.items()} for case, row in rows.items()}


def _checkpoints(checkpoint: Path) -> list[Path]:
    """The file of a training's state, and that of the registration network alone beside it, those that there are."""
    return sorted(checkpoint.parent.glob(f"{checkpoint.stem}*{checkpoint.suffix}"))
