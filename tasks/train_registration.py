"""Train a registration network on the cohort, by a recipe; the one long job of the flow `train-registration`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from prefect import task

from covoxel.io import read_image, read_transform, sha256_file, write_table, write_text
from covoxel.manifest import Manifest, Record
from covoxel.spatial import Image
from covoxel.training.registration import (
    Frame,
    Recipe,
    TrainedRegistration,
    TrainingCase,
    TrainingDivergedError,
    frame_of,
    prepare,
    train_registration,
)
from data_catalog import Case
from tasks.align import reference_of, training_ids
from tasks.call import NothingDoneError
from tasks.engine import label_map_of
from tasks.job import Artifact, Job, Made, number, work
from tasks.model_card import CardFacts, Run, model_card
from tasks.models import save_model
from tasks.options import TASK_OPTIONS
from tasks.recipe import build_network, recipe_data
from tasks.settings import TrainSettings
from tasks.study import Study
from tasks.teaching import Lesson, lesson_of

STAGE = "train"
THREADS = 2
"""Of the training: a fixed number, so that results do not depend on the number of cores."""

Tell = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""


@dataclass(frozen=True)
class TrainingFiles:
    """What is read of one case, and whose it is.

    Parameters
    ----------
    image
        Preprocessed.
    labels
        Label map that came with it, if it is an atlas.
    predicted
        Label map that was predicted for it, if that is to teach.
    alignment
        Transform onto the reference, if there is one.
    subject
        Of the image.
    """

    image: Artifact
    labels: Artifact | None
    predicted: Artifact | None
    alignment: Artifact | None
    subject: str

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file, by what it is."""
        named = {"image": self.image, "labels": self.labels, "predicted": self.predicted, "alignment": self.alignment}
        return {name: part.sha256 for name, part in named.items() if part is not None}


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
        return {f"{case}.{name}": sha for case, files in self.files.items() for name, sha in files.hashes().items()}

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
    cases, frame, lesson = read_cases(job)
    checkpoint, logs = job.layout.checkpoint(job.fingerprint()), job.layout.logs(job.recipe.name)
    resumed = checkpoint.exists()
    if not resumed:
        _clear(logs)
    torch.set_num_threads(THREADS)
    try:
        trained = train_registration(
            build_network(job.recipe, len(frame.shape)),
            cases,
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


def job_name(recipe: str) -> str:
    """What stands for the id of a case in the record of a training by that recipe: no id begins so."""
    return f"@{recipe}"


def trained(output: Path, recipe: str) -> Record | None:
    """Record of the training by a recipe in an output folder, if it has ended."""
    return Manifest(output).read(STAGE, job_name(recipe))


def trained_on(record: Record) -> list[str]:
    """Ids of the cases whose image trained a network."""
    return [name.removesuffix(".image") for name in record.inputs if name.endswith(".image")]


def require_model(study: Study) -> None:
    """Refuse to end well without a model.

    Raises
    ------
    NothingDoneError
        If the training failed, or no case was left to train on.
    """
    if not study.records.get(STAGE):
        raise NothingDoneError(f"no model was trained: {study.trouble.get(STAGE, 'no case is fit to train on')}")


def read_cases(job: TrainJob) -> tuple[list[TrainingCase], Frame, Lesson]:
    """All cases on one frame, that frame, and the label maps that teach."""
    images = {case: read_image(files.image.path) for case, files in job.files.items()}
    drawn = {case: files.labels.path for case, files in job.files.items() if files.labels is not None}
    predicted = {case: files.predicted.path for case, files in job.files.items() if files.predicted is not None}
    lesson = lesson_of(drawn, predicted, images)
    frame = _frame(job, images)
    cases = [
        prepare(
            case,
            images[case],
            frame,
            labels=lesson.places.get(case),
            subject=files.subject,
            moving_from_fixed=_matrix(job, files, images[job.reference]),
        )
        for case, files in job.files.items()
    ]
    return cases, frame, lesson


def _files(study: Study, case: str) -> TrainingFiles:
    layout, own = study.layout, study.cohort.case(case)
    taught = study.recipe is not None and study.recipe.supervision == "labels"
    return TrainingFiles(
        image=study.artifact("preprocess", case, layout.preprocessed(case)),
        labels=_drawn(study, own) if taught and own.role == "atlas" else None,
        predicted=_predicted(study, own) if taught and own.role != "atlas" else None,
        alignment=study.artifact("align", case, layout.alignment(case)) if study.record("align", case) else None,
        subject=own.subject,
    )


def _drawn(study: Study, atlas: Case) -> Artifact:
    return Artifact(atlas.training_label(), study.records["check"][atlas.id].inputs["label"])


def _predicted(study: Study, case: Case) -> Artifact | None:
    folder = study.call.settings.train.labels
    path = None if folder is None else label_map_of(folder, case.id)
    return None if path is None else Artifact(path, sha256_file(path))


def _frame(job: TrainJob, images: Mapping[str, Image]) -> Frame:
    """The frame of all images; that of the reference, in its world, where images are laid on it by transforms."""
    if job.recipe.alignment == "centre":
        return frame_of(list(images.values()))
    reference = images[job.reference]
    return replace(frame_of([reference]), centre_ras=tuple(reference.grid.centre_ras.tolist()))


def _matrix(job: TrainJob, files: TrainingFiles, reference: Image) -> Any:
    if job.recipe.alignment == "centre":
        return None
    if files.alignment is None:
        return torch.eye(reference.grid.ndim + 1, dtype=torch.float64).numpy()
    return read_transform(files.alignment.path, reference.grid).moving_from_fixed


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


def _clear(logs: Path) -> None:
    """Remove the logs of an earlier training, which would be drawn over those of this one."""
    for path in logs.glob("events.out.tfevents.*"):
        path.unlink()
