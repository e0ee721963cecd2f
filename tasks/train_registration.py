"""Train a registration network on the cohort, by a recipe; the one long job of the flow `train-registration`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from prefect import task

from covoxel.io import write_table, write_text
from covoxel.training.registration import (
    Frame,
    Recipe,
    TrainedRegistration,
    TrainingDivergedError,
    train_registration,
)
from data_catalog import Case
from data_catalog.files import sha256_of
from tasks.align import reference_of, training_ids
from tasks.atlas_label import label_of
from tasks.engine import label_map_of
from tasks.facts import TrainFacts
from tasks.job import Artifact, Job, Made, number, work
from tasks.model_card import CardFacts, Run, model_card
from tasks.models import save_model
from tasks.options import TASK_OPTIONS
from tasks.recipe import build_network, recipe_data
from tasks.settings import TrainSettings
from tasks.study import Study
from tasks.teaching import Lesson
from tasks.training_files import TrainingFiles, files_of, input_hashes, read_cases
from tasks.trainings import THREADS, Tell, clear_logs, job_name

STAGE = "train"


@dataclass(frozen=True)
class TrainJob(Job):
    """A recipe and all cases that train.

    Parameters
    ----------
    files
        What is read of each case, by id, atlases first.
    reference
        Id of the case onto which the others were brought.
    recipe
        How to train.
    names
        Of structures, by label, for the model card.
    settings
        Precision and number of devices.
    tell
        Told of each step.
    """

    stage = STAGE
    facts = TrainFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.preprocessing",
        "covoxel.training.augmentation",
        "covoxel.training.averaging",
        "covoxel.training.registration",
        "covoxel.training.seeds",
        "covoxel.training.tally",
        "nets.registration",
        "tasks.models",
        "tasks.recipe",
        "tasks.recipe_parsing",
        "tasks.same_labels",
        "tasks.teaching",
        "tasks.train_registration",
        "tasks.training_files",
        "tasks.weights",
    )
    vital = False

    files: Mapping[str, TrainingFiles]
    reference: str
    recipe: Recipe
    names: Mapping[int, str]
    settings: TrainSettings = TrainSettings()
    tell: Tell | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return input_hashes(self.files)

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on; label maps are known by the content of their files."""
        return {
            "recipe": recipe_data(self.recipe),
            "reference": self.reference,
            "subjects": {case: files.subject for case, files in self.files.items()},
            "precision": self.settings.precision,
        }


@task(task_run_name="train {job.recipe.name}", **TASK_OPTIONS)
@work
def train(job: TrainJob) -> Made:
    """Write weights, recipe, learning curve and model card; goes on from a checkpoint if it was killed."""
    started = time.perf_counter()
    reading = read_cases(job.files, job.reference, job.recipe.alignment)
    frame, lesson = reading.frame, reading.lesson
    checkpoint, logs = job.layout.checkpoint(job.fingerprint()), job.layout.logs(job.recipe.name)
    resumed = checkpoint.exists()
    if not resumed:
        clear_logs(logs)
    torch.set_num_threads(THREADS)
    try:
        trained = train_registration(
            build_network(job.recipe, len(frame.shape)),
            reading.cases,
            job.recipe,
            values=len(lesson.values),
            spacing_mm=frame.spacing_mm,
            device=job.device,
            precision=job.settings.precision,
            devices=job.settings.devices,
            checkpoint=checkpoint,
            logs=logs,
            progress=job.tell if job.settings.devices == 1 else None,  # it cannot be told from other processes
        )
    except TrainingDivergedError as error:
        raise ValueError(str(error)) from error
    run = Run(time.perf_counter() - started, job.device, job.settings.precision, job.settings.devices, resumed)
    outputs = _write(job, trained, frame, lesson, run)
    checkpoint.unlink(missing_ok=True)
    return Made(outputs, {**_facts(trained), "left_out": lesson.left_out})


def train_jobs(study: Study, tell: Tell | None = None) -> list[TrainJob]:
    """The one job, if there is a recipe."""
    ids = training_ids(study)
    if study.recipe is None or not ids:
        return []
    return [
        TrainJob(
            job_name(study.recipe.name),
            study.call.output,
            study.device,
            files={case: _files(study, case) for case in ids},
            reference=reference_of(study),
            recipe=study.recipe,
            names=study.cohort.label_names,
            settings=study.call.settings.train,
            tell=tell,
        )
    ]


def training_lines(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """How a training went, in words, of the facts of its record."""
    loss = "" if facts["validation"] is None else f", validation loss {facts['validation']:.4g}"
    early = ", stopped early" if facts["stopped_early"] else ""
    line = f"trained for {facts['steps']} steps{early}; best after {facts['best_step']}{loss}"
    return (line, *facts["notes"], *(f"{case}: {reason}" for case, reason in sorted(facts["left_out"].items())))


def _files(study: Study, case: str) -> TrainingFiles:
    own = study.cohort.case(case)
    files = files_of(study, own)
    if study.recipe is None or study.recipe.supervision != "labels":
        return files
    if own.role == "atlas":
        return replace(files, labels=label_of(study, own))
    return replace(files, predicted=_predicted(study, own))


def _predicted(study: Study, case: Case) -> Artifact | None:
    folder = study.call.settings.train.labels
    path = None if folder is None else label_map_of(folder, case.id)
    return None if path is None else Artifact(path, sha256_of(path))


def _write(job: TrainJob, trained: TrainedRegistration, frame: Frame, lesson: Lesson, run: Run) -> list[Path]:
    folder = job.layout.model(job.recipe.name)
    drawn = sum(files.labels is not None for files in job.files.values())
    predicted = len(lesson.contents) - drawn
    facts = CardFacts(
        recipe=job.recipe,
        parameters=sum(part.numel() for part in trained.network.parameters()),
        shape=frame.shape,
        spacing_mm=frame.spacing_mm,
        cases=len(job.files),
        structures=[job.names.get(value) or str(value) for value in lesson.values if value],
        drawn=drawn,
        predicted=predicted,
        left_out=len(lesson.left_out),
        trained=trained,
        run=run,
    )
    how: dict[str, Any] = {"cases": len(job.files), "labelled": len(lesson.contents), "predicted": predicted}
    how |= {"seed": job.recipe.seed, "device": run.device, "devices": run.devices, "precision": run.precision}
    how |= {"steps": trained.step, "best_step": trained.best_step, "seconds": round(run.seconds, 1)}
    saved = save_model(
        folder, trained.network, job.recipe, spacing_mm=frame.spacing_mm, trained=how, taught_by=lesson.contents
    )
    write_table(folder / "curve.tsv", trained.curve)
    write_text(folder / "README.md", model_card(facts))
    return [*saved, folder / "curve.tsv", folder / "README.md"]


def _facts(trained: TrainedRegistration) -> dict[str, Any]:
    best = trained.curve[trained.curve["step"] == trained.best_step]
    return {
        "steps": trained.step,
        "best_step": trained.best_step,
        "stopped_early": trained.stopped_early,
        "notes": list(trained.notes),
        "validation": number(float(best["validation_loss"].iloc[0])) if len(best) else None,
    }
