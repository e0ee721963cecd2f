"""Trainings of the sweep, each in a process of its own that can be killed and goes on.

Run by benchmarks.label_sweep: python -m benchmarks.sweep_training JOB.json FOUND.json
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks.league_process import run_module
from benchmarks.league_training import Clock
from benchmarks.measure import say
from benchmarks.sweep_job import SweepJob, ground_of, job_of, recipe_of
from benchmarks.sweep_networks import train
from covoxel.io import write_json

_CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Training:
    """A training that is done, its folder, and what is known of it."""

    job: SweepJob
    folder: Path
    facts: dict[str, Any]


def do(job: SweepJob, work: Path) -> Training:
    """Train, if it is not done yet.

    Raises
    ------
    PartFailed
        If it failed.
    """
    folder = work / "models" / f"{job.name}-{job.key}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "trained.json"
    if not done.is_file():
        say(f"{folder.name}: training")
        run_module("benchmarks.sweep_training", asdict(job), done, threads=job.threads)
    facts = json.loads(done.read_text(encoding="utf-8"))
    say(f"{folder.name}: trained, {facts['steps']} steps in {facts['minutes']:.1f} minutes")
    return Training(job, folder, facts)


# In the process of one training


def work_on(job: SweepJob, folder: Path) -> dict[str, Any]:
    """Train, leave the networks in `folder`, give what is known of it."""
    torch.set_num_threads(job.threads)
    clock = Clock(folder / "seconds.json", perf_counter if job.device == "cuda" else process_time)
    ground = ground_of(job)
    found = train(
        recipe_of(job),
        ground,
        folder,
        {
            "device": job.device,
            "checkpoint": folder / "checkpoint.pt",
            "checkpoint_seconds": _CHECKPOINT_SECONDS,
            "progress": clock.tick,
        },
    )
    clock.note()
    return found | {"minutes": clock.seconds / 60, "spacing_mm": list(ground.frame.spacing_mm)}


def main(argv: Sequence[str]) -> None:
    """Command line."""
    job, found = (Path(argument) for argument in argv)
    write_json(found, work_on(job_of(json.loads(job.read_text(encoding="utf-8"))), found.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
