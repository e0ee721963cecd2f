"""One row of the benchmark of nnU-Net: trained on its cases by its budget, predicted and scored."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.few_shot_scores import row_of
from benchmarks.fusion_evidence import STRUCTURES, Cohort
from benchmarks.measure import say
from benchmarks.nnunet_cohort import Hippocampus
from benchmarks.sweep_scores import score_of
from covoxel.external.nnunet import (
    Plan,
    PredictionCase,
    Predictor,
    Profile,
    Weighting,
    plan,
    predict_files,
    read_model,
    train_fold,
    write_dataset,
    write_model,
)
from covoxel.io import read_labels, write_json
from covoxel.preprocessing import canonical

_TIMED, _WARM = 12, 4


@dataclass(frozen=True)
class Budget:
    """How long is trained: by steps, by minutes, or as the profile says."""

    steps: int | None
    minutes: float | None


@dataclass(frozen=True)
class Row:
    """One row.

    Parameters
    ----------
    name
        Which.
    folder
        For all that is made.
    profile, budget, weighting, seed, device
        How to train.
    """

    name: str
    folder: Path
    profile: Profile
    budget: Budget
    weighting: Weighting
    seed: int
    device: str

    @property
    def model(self) -> Path:
        """Folder of the model."""
        return self.folder / "model"

    def result(self, data: Hippocampus, cohort: Cohort) -> dict[str, Any]:
        """Train, predict, score."""
        made = self._plan(data)
        about = self._train(made)
        predictor = Predictor(read_model(self.model), device=self.device)
        cases = [PredictionCase(case, (data.image(case),)) for case in cohort.cases]
        began = perf_counter()
        problems = [p.problem for p in predict_files(predictor, cases, self.folder / "predicted") if p.problem]
        for problem in problems:
            say(problem)
        files = {case: self.folder / "predicted" / f"{case}.nii.gz" for case in cohort.cases}
        scores = [
            score_of(case, canonical(read_labels(file)).data, cohort.label_map(case))
            for case, file in files.items()
            if file.is_file()
        ]
        found = row_of(self.name, scores, self.seed)
        return {
            **found,
            "train": len(made.cases),
            "steps": about["steps"],
            "minutes": about["seconds"] / 60,
            "loss": about["loss"],
            "predict_s": (perf_counter() - began) / max(1, len(cases)),
        }

    def _plan(self, data: Hippocampus) -> Plan:
        cases = data.cases(self.name, self.folder.parent)
        dataset = write_dataset(self.folder / "Dataset004_Hippocampus", cases, names=STRUCTURES)
        made = plan(dataset, self.folder / "work", self.profile, device=self.device)
        own = made.plans["configurations"][made.configuration]
        stages = own["architecture"]["arch_kwargs"]["features_per_stage"]
        say(f"{self.name}: {len(made.cases)} cases, patch {own['patch_size']}, batch {own['batch_size']}, {stages}")
        return replace(made, profile=self._lasting(made))

    def _lasting(self, made: Plan) -> Profile:
        """The profile with the steps of the budget, which stay once they are known."""
        known = self.folder / "steps.json"
        if self.budget.minutes is not None and not known.is_file():
            write_json(known, {"steps": max(1, round(self.budget.minutes * 60 / self._step_seconds(made)))})
        if self.budget.minutes is not None:
            return made.profile.of_steps(int(json.loads(known.read_text(encoding="utf-8"))["steps"]))
        return made.profile if self.budget.steps is None else made.profile.of_steps(self.budget.steps)

    def _step_seconds(self, made: Plan) -> float:
        short = replace(made, profile=replace(made.profile, epochs=1, iterations=_WARM + _TIMED))
        times: list[float] = []
        train_fold(short, "all", list(made.cases), device=self.device, progress=lambda *_: times.append(perf_counter()))
        return (times[-1] - times[_WARM - 1]) / _TIMED

    def _train(self, made: Plan) -> dict[str, Any]:
        about, state = self.folder / "training.json", self.folder / "training.pt"
        before = json.loads(about.read_text(encoding="utf-8")) if about.is_file() and state.is_file() else {}
        clock = _Clock(float(before.get("seconds", 0)), about, made.profile.iterations)
        found = train_fold(
            made,
            "all",
            list(made.cases),
            weighting=self.weighting,
            seed=self.seed,
            device=self.device,
            checkpoint=state,
            progress=clock,
        )
        write_model(self.model, made, [found])
        return {"seconds": clock.seconds, "steps": made.profile.steps, "loss": found.losses[-1]}


class _Clock:
    """Tells how far a training is, and adds up its seconds over all calls."""

    def __init__(self, before: float, file: Path, every: int) -> None:
        self.before, self.file, self.every, self.began = before, file, every, perf_counter()
        self.now, self.sum, self.count = before, 0.0, 0

    def __call__(self, done: int, total: int, loss: float) -> None:
        self.now = self.before + perf_counter() - self.began
        self.sum, self.count = self.sum + loss, self.count + 1
        if done % self.every == 0 or done == total:
            say(f"  step {done} of {total}, loss {self.sum / self.count:.4f}, {self.now / 60:.1f} minutes")
            write_json(self.file, {"seconds": self.now})
            self.sum, self.count = 0.0, 0

    @property
    def seconds(self) -> float:
        """Of training, in all calls."""
        return self.now


def held_apart(train: Sequence[str], score: Sequence[str]) -> None:
    """Refuse to score what trained."""
    both = sorted(set(train) & set(score))
    if both:
        raise SystemExit(f"case {both[0]} must not both train and be scored")
