"""Training of one recipe of the league within its budget, in a process of its own that can be killed and goes on.

Run by benchmarks.league: python -m benchmarks.league_training JOB.json FOUND.json
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import STRUCTURES, Cohort
from benchmarks.league_process import PartFailed, run_module
from benchmarks.league_propagation import label_file, minutes_of
from benchmarks.measure import say
from covoxel.io import read_labels, sha256_file, sha256_json, write_json, write_table
from covoxel.registration import MovingBatch
from covoxel.registration.alignment import align
from covoxel.training.registration import Frame, Recipe, TrainingCase, frame_of, prepare, train_registration
from tasks.models import save_model
from tasks.recipe import build_network, load_recipe, recipe_data
from tasks.recipe_files import find_recipe

PROBE_STEPS = 12
_CODE = (
    "covoxel/training/*.py",
    "covoxel/training/registration/*.py",
    "covoxel/losses/**/*.py",
    "covoxel/spatial/**/*.py",
    "covoxel/preprocessing/**/*.py",
    "nets/registration/**/*.py",
)
"""What a training runs; other networks and their trainings do not make it begin anew."""
_NOTE_SECONDS = 15.0
_CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class TrainingJob:
    """One recipe, what it may see, and its budget: minutes, or steps.

    Parameters
    ----------
    recipe
        Its name.
    source
        Folder with `images/` and `labels/`.
    atlases, unlabelled
        Ids; only the labels of atlases are read.
    minutes, steps
        One of them: of everything, trial steps and validation included; or of the descent. Minutes of the clock on a
        GPU, of computing on a CPU, which others at work on the machine do not use up.
    seed, threads, device
        Of the training.
    propagated
        Folder of predicted label maps of the unlabelled cases, which teach too; None: only the atlases' do.
    """

    recipe: str
    source: Path
    atlases: tuple[str, ...]
    unlabelled: tuple[str, ...]
    minutes: float | None
    steps: int | None
    seed: int
    threads: int
    device: str
    propagated: Path | None = None

    @property
    def key(self) -> str:
        """Ten letters that change with the recipe, the images, the labels, the code and the budget."""
        files = [self.source / "images" / f"{case}.nii.gz" for case in (*self.atlases, *self.unlabelled)]
        files += [self.source / "labels" / f"{case}.nii.gz" for case in self.atlases]
        data = {str(file.relative_to(self.source)): sha256_file(file) for file in files}
        recipe = recipe_data(recipe_of(self.recipe))
        places = {"source": "", "propagated": self.propagated and self.propagated.name}  # which is its key
        return sha256_json([asdict(self) | places, recipe, data, _code()])[:10]

    @property
    def supervision(self) -> str:
        """What teaches, for the table."""
        return recipe_of(self.recipe).supervision + (", propagated" if self.propagated else "")


def recipe_of(name: str) -> Recipe:
    """Recipe by name, or of a YAML file."""
    return load_recipe(find_recipe(name))


def _code() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for pattern in _CODE for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class TrainedRecipe:
    """What the league knows of one training: folder of the model, and columns of the table."""

    recipe: str
    supervision: str
    model: Path
    facts: dict[str, Any]


def train_all(jobs: Sequence[TrainingJob], work: Path, processes: int) -> list[TrainedRecipe]:
    """Train each job that is not done yet, so many at once; one that fails is said and left out."""

    def one(job: TrainingJob) -> TrainedRecipe | None:
        try:
            return _train(job, work)
        except PartFailed as error:
            say(f"{job.recipe}: FAILED, {error}")
            return None

    with ThreadPoolExecutor(processes) as pool:
        return [trained for trained in pool.map(one, jobs) if trained is not None]


def _train(job: TrainingJob, work: Path) -> TrainedRecipe:
    folder = work / f"{job.recipe}-{job.key}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "trained.json"
    if not done.is_file():
        say(f"{job.recipe}: training")
        run_module("benchmarks.league_training", asdict(job), done, threads=job.threads)
    facts = json.loads(done.read_text(encoding="utf-8"))
    say(f"{job.recipe}: trained, {facts['steps']} steps in {facts['minutes']:.1f} minutes")
    if job.propagated is not None:
        facts["minutes"] += minutes_of(job.propagated)
    return TrainedRecipe(job.recipe, job.supervision, folder / "model", facts)


# In the process of one training


def clock_of(job: TrainingJob) -> Callable[[], float]:
    """What the seconds of a training are measured by."""
    return perf_counter if job.device == "cuda" else process_time


class Clock:
    """Seconds spent on a training, over all times it was taken up; ends the process when the league is gone.

    Parameters
    ----------
    file
        Where they are noted.
    now
        The clock.
    """

    def __init__(self, file: Path, now: Callable[[], float]) -> None:
        self.file, self.parent, self.now = file, os.getppid(), now
        self.start, self.before = now(), 0.0
        if file.is_file():
            self.before = float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
        self.noted = self.start

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.before + self.now() - self.start

    def tick(self, done: int, steps: int, loss: float) -> None:
        """Progress of a training."""
        if os.getppid() != self.parent:
            raise SystemExit("the league was killed; its trainings go on when it is started again")
        if self.now() - self.noted > _NOTE_SECONDS:
            self.note()
            say(f"{done}/{steps}  loss {loss:.4f}  {self.seconds:.0f} s")

    def note(self) -> None:
        """Write the seconds down."""
        self.noted = self.now()
        write_json(self.file, {"seconds": self.seconds})


def work_on(job: TrainingJob, folder: Path) -> dict[str, Any]:
    """Train, save the model in `folder`, give the columns of the table."""
    torch.set_num_threads(job.threads)
    clock = Clock(folder / "seconds.json", clock_of(job))
    recipe = replace(recipe_of(job.recipe), seed=job.seed)
    cases, frame = training_cases(job, recipe)
    recipe = with_steps(recipe, steps_for(job, recipe, cases, clock, folder / "steps.json"))
    network = build_network(recipe, 3)
    trained = train_registration(
        network,
        cases,
        recipe,
        values=1 + len(STRUCTURES),
        spacing_mm=frame.spacing_mm,
        device=job.device,
        checkpoint=folder / "checkpoint.pt",
        checkpoint_seconds=_CHECKPOINT_SECONDS,
        logs=folder / "logs",
        progress=clock.tick,
    )
    clock.note()
    save_model(folder / "model", trained.network, recipe, spacing_mm=frame.spacing_mm)
    write_table(folder / "curve.tsv", trained.curve)
    return {
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "steps": trained.step,
        "best_step": trained.best_step,
        "minutes": clock.seconds / 60,
    }


def training_cases(job: TrainingJob, recipe: Recipe) -> tuple[list[TrainingCase], Frame]:
    """Atlases with their labels and all others, with propagated ones if there are, on one frame.

    Centre on centre, or as the first atlas lies.
    """
    cohort = Cohort(job.source, Path(), job.atlases, job.unlabelled)
    images = {case: cohort.image(case) for case in (*job.atlases, *job.unlabelled)}
    frame = frame_of(list(images.values()))
    matrices: dict[str, NDArray[np.float64]] = {}
    if recipe.alignment != "centre":
        reference = cohort.image(job.atlases[0])
        frame = replace(frame_of([reference]), centre_ras=tuple(reference.grid.centre_ras.tolist()))
        aligned = align(reference, MovingBatch.of(list(images.values()), "cpu"), recipe.alignment)
        matrices = {case: t.moving_from_fixed for case, t in zip(images, aligned, strict=True)}
    labels = {atlas: cohort.label_map(atlas) for atlas in job.atlases}
    if job.propagated is not None:
        labels |= {case: read_labels(label_file(job.propagated, case)) for case in job.unlabelled}
    cases = [
        prepare(case, image, frame, labels=labels.get(case), moving_from_fixed=matrices.get(case))
        for case, image in images.items()
    ]
    return cases, frame


def steps_for(job: TrainingJob, recipe: Recipe, cases: Sequence[TrainingCase], clock: Clock, file: Path) -> int:
    """Steps that fit the budget, measured by a few trial steps; decided once, so that a killed training goes on."""
    if job.steps is not None:
        return job.steps
    if not file.is_file():
        assert job.minutes is not None
        step, check = trial(job, recipe, cases)
        left = 60 * job.minutes - clock.seconds
        checks = recipe.steps / recipe.check_every
        steps = max(PROBE_STEPS, math.floor((left - checks * check) / step))
        write_json(file, {"steps": steps, "step_seconds": step, "check_seconds": check})
    return int(json.loads(file.read_text(encoding="utf-8"))["steps"])


def trial(job: TrainingJob, recipe: Recipe, cases: Sequence[TrainingCase]) -> tuple[float, float]:
    """Seconds of a step, and of a judgement by held-out pairs (after the last one), from `PROBE_STEPS` steps."""
    now = clock_of(job)
    times = [now()]
    network = build_network(recipe, 3)
    short = replace(with_steps(recipe, PROBE_STEPS), check_every=PROBE_STEPS)
    train_registration(
        network,
        cases,
        short,
        values=1 + len(STRUCTURES),
        device=job.device,
        progress=lambda done, steps, loss: times.append(now()),
    )
    intervals = [b - a for a, b in pairwise(times[2:])]
    step = median(intervals)
    return step, max(0.0, intervals[-1] - step)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """The recipe cut or stretched to so many steps, judged as often as before."""
    check_every = max(1, round(recipe.check_every * steps / recipe.steps))
    return replace(recipe, steps=steps, warm_up=min(recipe.warm_up, steps // 4), check_every=check_every)


def job_of(data: dict[str, Any]) -> TrainingJob:
    """A job from the JSON it was sent as."""
    lists = {name: tuple(data[name]) for name in ("atlases", "unlabelled")}
    folder = data.get("propagated")
    paths = {"source": Path(data["source"]), "propagated": Path(folder) if folder else None}
    return TrainingJob(**{**data, **lists, **paths})


def main(argv: Sequence[str]) -> None:
    """Command line."""
    job, found = (Path(argument) for argument in argv)
    write_json(found, work_on(job_of(json.loads(job.read_text(encoding="utf-8"))), found.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
