"""Milliseconds a pair of each method, nothing else running: a case with ten atlases as the flow does it, and one pair.

Run by benchmarks.league in a process of its own: python -m benchmarks.league_timing JOB.json FOUND.json
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.fusion_evidence import Cohort
from benchmarks.league_methods import Method, transforms_of
from benchmarks.league_process import run_module
from benchmarks.measure import Stopwatch
from covoxel.io import write_json

_ALONE = 3
"""Atlases of each case that are timed one by one."""


@dataclass(frozen=True)
class TimingJob:
    """The methods, and the cases they are timed on; `cohort` has the atlases."""

    methods: tuple[Method, ...]
    cohort: Cohort
    cases: tuple[str, ...]


def time_methods(job: TimingJob, folder: Path) -> dict[str, dict[str, float]]:
    """Columns `ms_1`, `ms_2` (threads), `ms_single` and, with a GPU, `gpu_ms`, `gpu_ms_single`, by method."""
    found = run_module("benchmarks.league_timing", asdict(job), folder / "timing.json", threads=2)
    return {name: dict(columns) for name, columns in found.items()}


def measured(job: TimingJob) -> dict[str, dict[str, float]]:
    """Do it: all methods take turns on each case, so that other load hurts them alike; the median counts."""
    seconds: dict[str, dict[str, list[float]]] = {method.name: {} for method in job.methods}
    for first, case in zip([True] + [False] * len(job.cases), (job.cases[0], *job.cases), strict=True):
        for method in job.methods:
            for column, value in _once(method, job.cohort, case).items():
                if not first:  # the first round loads networks and fills caches
                    seconds[method.name].setdefault(column, []).append(value)
    return {name: {c: 1000 * median(values) for c, values in columns.items()} for name, columns in seconds.items()}


def _once(method: Method, cohort: Cohort, case: str) -> dict[str, float]:
    """Seconds a pair, by column."""
    fixed, moving = cohort.image(case), [cohort.image(atlas) for atlas in cohort.atlases]
    label_maps = [cohort.label_map(atlas) for atlas in cohort.atlases]
    found: dict[str, float] = {}

    def work(count: int, device: str) -> Callable[[], object]:
        return lambda: transforms_of(method, fixed, moving[:count], label_maps[:count], device)

    for threads in (1, 2):
        torch.set_num_threads(threads)
        found[f"ms_{threads}"] = _seconds(work(len(moving), "cpu")) / len(moving)
    alone = [_seconds(work(1, "cpu")) for _ in range(_ALONE)]
    found["ms_single"] = median(alone)
    if torch.cuda.is_available():
        found["gpu_ms"] = _seconds(work(len(moving), "cuda")) / len(moving)
        found["gpu_ms_single"] = median([_seconds(work(1, "cuda")) for _ in range(_ALONE)])
    return found


def _seconds(work: Callable[[], object]) -> float:
    with Stopwatch() as watch:
        work()  # transforms come back on the CPU, so a GPU is done by then
    return watch.seconds


_FOLDERS = ("model", "template")


def job_of(data: dict[str, Any]) -> TimingJob:
    """A job from the JSON it was sent as."""
    methods = tuple(Method(**{**m, **{name: m[name] and Path(m[name]) for name in _FOLDERS}}) for m in data["methods"])
    return TimingJob(methods, cohort_of(data["cohort"]), tuple(data["cases"]))


def cohort_of(data: dict[str, Any]) -> Cohort:
    """A cohort from JSON."""
    return Cohort(Path(data["source"]), Path(data["transforms"]), tuple(data["atlases"]), tuple(data["cases"]))


def main(argv: Sequence[str]) -> None:
    """Command line."""
    job, found = (Path(argument) for argument in argv)
    write_json(found, measured(job_of(json.loads(job.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main(sys.argv[1:])
