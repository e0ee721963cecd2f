"""Train a registration network on the cohort, by a recipe; the one long job of the flow `train-registration`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from prefect import task

from covoxel.io import read_image, read_labels, read_transform, write_table, write_text
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
from tasks.align import reference_of, training_ids
from tasks.call import NothingDoneError
from tasks.job import Artifact, Job, Made, number, work
from tasks.model_card import CardFacts, Run, model_card
from tasks.models import save_model
from tasks.options import TASK_OPTIONS
from tasks.recipe import build_network, recipe_data
from tasks.study import Study

STAGE = "train"
THREADS = 2
"""Of the training: a fixed number, so that results do not depend on the number of cores."""

Tell = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""


@dataclass(frozen=True)
class TrainingFiles:
    """What is read of one case: image, labels if it is an atlas, and its transform if it is aligned; whose it is."""

    image: Artifact
    labels: Artifact | None
    alignment: Artifact | None
    subject: str

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file, by what it is."""
        named = {"image": self.image, "labels": self.labels, "alignment": self.alignment}
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
        "nets.registration",
        "tasks.models",
        "tasks.recipe",
        "tasks.train_registration",
    )
    vital = False

    files: Mapping[str, TrainingFiles]
    reference: str
    recipe: Recipe
    names: Mapping[int, str]
    tell: Tell | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {f"{case}.{name}": sha for case, files in self.files.items() for name, sha in files.hashes().items()}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        subjects = {case: files.subject for case, files in self.files.items()}
        return {"recipe": recipe_data(self.recipe), "reference": self.reference, "subjects": subjects}


@task(task_run_name="train {job.recipe.name}", **TASK_OPTIONS)
@work
def train(job: TrainJob) -> Made:
    """Write weights, recipe, learning curve and model card; goes on from a checkpoint if it was killed."""
    started = time.perf_counter()
    cases, frame, values = read_cases(job)
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
            values=len(values),
            spacing_mm=frame.spacing_mm,
            device=job.device,
            checkpoint=checkpoint,
            logs=logs,
            progress=job.tell,
        )
    except TrainingDivergedError as error:
        raise ValueError(str(error)) from error
    run = Run(time.perf_counter() - started, job.device, resumed)
    outputs = _write(job, trained, frame, values, run)
    checkpoint.unlink(missing_ok=True)
    return Made(outputs, _facts(trained))


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


def read_cases(job: TrainJob) -> tuple[list[TrainingCase], Frame, list[int]]:
    """All cases on one frame, that frame, and the values of all labels, background first (none if none are read)."""
    images = {case: read_image(files.image.path) for case, files in job.files.items()}
    values = _label_values(job)
    frame = _frame(job, images)
    cases = [
        prepare(
            case,
            images[case],
            frame,
            labels=_places(files, values),
            subject=files.subject,
            moving_from_fixed=_matrix(job, files, images[job.reference]),
        )
        for case, files in job.files.items()
    ]
    return cases, frame, values


def _files(study: Study, case: str) -> TrainingFiles:
    layout, recipe = study.layout, study.recipe
    own = study.cohort.case(case)
    labelled = own.role == "atlas" and recipe is not None and recipe.supervision == "labels"
    return TrainingFiles(
        image=study.artifact("preprocess", case, layout.preprocessed(case)),
        labels=study.artifact("preprocess", case, layout.preprocessed_labels(case)) if labelled else None,
        alignment=study.artifact("align", case, layout.alignment(case)) if study.record("align", case) else None,
        subject=own.subject,
    )


def _label_values(job: TrainJob) -> list[int]:
    """All values of all label maps in ascending order, 0 among them; empty if no label is read."""
    maps = [files.labels.path for files in job.files.values() if files.labels is not None]
    found = {value for path in maps for value in torch.unique(read_labels(path).data).tolist()}
    return sorted(found | {0}) if maps else []


def _places(files: TrainingFiles, values: list[int]) -> Image | None:
    """Labels of a case as places in the list of values, None if it has none."""
    if files.labels is None:
        return None
    labels = read_labels(files.labels.path)
    return Image(torch.searchsorted(torch.tensor(values), labels.data.contiguous()), labels.grid)


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


def _write(job: TrainJob, trained: TrainedRegistration, frame: Frame, values: list[int], run: Run) -> list[Path]:
    folder = job.layout.model(job.recipe.name)
    labelled = sum(files.labels is not None for files in job.files.values())
    facts = CardFacts(
        recipe=job.recipe,
        parameters=sum(part.numel() for part in trained.network.parameters()),
        shape=frame.shape,
        spacing_mm=frame.spacing_mm,
        cases=len(job.files),
        structures=[job.names.get(value) or str(value) for value in values if value],
        labelled=labelled,
        trained=trained,
        run=run,
    )
    how = {"cases": len(job.files), "labelled": labelled, "seed": job.recipe.seed, "device": run.device}
    how |= {"steps": trained.step, "best_step": trained.best_step, "seconds": round(run.seconds, 1)}
    saved = save_model(folder, trained.network, job.recipe, spacing_mm=frame.spacing_mm, trained=how)
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
