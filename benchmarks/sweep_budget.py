"""How long a step of each phase takes, by a few trial steps in a process of its own, and what then fits a budget.

Run by benchmarks.label_sweep: python -m benchmarks.sweep_budget JOB.json FOUND.json
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time

import torch

from benchmarks.league_process import run_module
from benchmarks.measure import say
from benchmarks.sweep_job import SweepJob, ground_of, job_of, recipe_of
from benchmarks.sweep_networks import train
from benchmarks.sweep_recipes import AnyRecipe, phases_of, with_phases
from covoxel.io import write_json

PROBE_STEPS, PROBE_ROUNDS = 12, 2
"""Trial steps of a phase; where both networks are trained in turns, rounds of them."""
_FIRST = 2
"""Steps of a phase that fill caches, and do not count."""


def seconds_of(job: SweepJob, work: Path) -> dict[str, float]:
    """Seconds of a step of each phase of a job, tried once; its scale must be 1."""
    found = work / "budgets" / f"{job.name}-{job.key}.json"
    found.parent.mkdir(parents=True, exist_ok=True)
    if not found.is_file():
        say(f"{job.name}: trial steps")
        run_module("benchmarks.sweep_budget", asdict(job), found, threads=job.threads)
    return {str(k): float(v) for k, v in json.loads(found.read_text(encoding="utf-8")).items()}


def scale_of(phases: Mapping[str, int], seconds: Mapping[str, float], budget_seconds: float) -> float:
    """By how much phases of so many steps are stretched to take `budget_seconds`; four digits."""
    whole = sum(steps * seconds[phase] for phase, steps in phases.items())
    return float(f"{max(budget_seconds, 0) / whole:.4g}")


@dataclass
class Steps:
    """Moments at which steps ended."""

    device: str

    def __post_init__(self) -> None:
        self.moments: list[float] = []

    def tick(self, done: int, steps: int, loss: float) -> None:
        """Progress of a training."""
        self.moments.append(perf_counter() if self.device == "cuda" else process_time())

    def seconds(self, phases: Mapping[str, int]) -> dict[str, float]:
        """Mean seconds of a step of each phase, without the first ones of each and the last."""
        intervals, first, found = [b - a for a, b in pairwise([0.0, *self.moments])], 0, {}
        for phase, steps in phases.items():
            own = intervals[first + _FIRST : first + steps - 1]  # the last one is judged
            found[phase] = fmean(own) if own else 0.0
            first += steps
        return found


def measured(job: SweepJob) -> dict[str, float]:
    """Do it."""
    torch.set_num_threads(job.threads)
    recipe = recipe_of(job)
    tried = {phase: _trial(recipe, phase) if steps else 0 for phase, steps in phases_of(recipe).items()}
    steps = Steps(job.device)
    train(with_phases(recipe, tried), ground_of(job), None, {"device": job.device, "progress": steps.tick})
    return steps.seconds(tried)


def _trial(recipe: AnyRecipe, phase: str) -> int:
    """Steps that say how long one takes."""
    turns = 1 + getattr(recipe, "ratio", 0.0) if phase == "joint" else 0.0
    return max(PROBE_STEPS, _FIRST + 1 + round(PROBE_ROUNDS * turns))


def main(argv: Sequence[str]) -> None:
    """Command line."""
    job, found = (Path(argument) for argument in argv)
    write_json(found, measured(job_of(json.loads(job.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main(sys.argv[1:])
