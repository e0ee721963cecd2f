"""One atlas onto one case, several sets of scans: the engine svf beside greedy, ANTs and ConvexAdam, a thread each.

Run from the project's root: python -m benchmarks.pairwise_registration --sets mouse hippocampus --peers greedy
All methods get the same preprocessed images; label maps are moved by the nearest voxel.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.measure import say, use_threads
from benchmarks.pairwise_cases import SETS, Pair, PairSet, pairs_of
from benchmarks.pairwise_methods import PEERS, Moved, with_engine
from covoxel.io import read_image, read_labels
from covoxel.metrics import dice
from covoxel.preprocessing import canonical, preprocess
from covoxel.spatial import Image

BARS = {"mouse": 0.005, "oasis35": 0.02}
"""By how much the mean Dice of ours is to exceed that of greedy."""
SHARE_OF_GREEDY = {"hippocampus": 0.3}
NOTES = (
    "dice: mean over the structures of a pair; mean, median and minimum over pairs. folds: determinant <= 0.",
    "cpu_s: processor seconds a pair inside the registration calls, affine part included, images in memory or on disk.",
)


@dataclass(frozen=True)
class Job:
    """One method on one pair of a set."""

    set_name: str
    pairs: PairSet
    pair: Pair
    method: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a job gave."""

    job: Job
    dice: float
    folds_percent: float
    seconds: float
    cpu_seconds: float


def start_worker() -> None:
    """One thread for whatever is loaded later."""
    use_threads(1)
    torch.set_num_threads(1)


@cache
def _images(folder: Path, case: str) -> tuple[Image, Image]:
    """Prepared image and label map of a case, kept by the process."""
    labels = canonical(read_labels(folder / "labels" / f"{case}.nii.gz"))
    return preprocess(read_image(folder / "images" / f"{case}.nii.gz")), labels


def work(job: Job) -> Found:
    """Register and score one pair."""
    (fixed, truth), (moving, labels) = (_images(job.pairs.folder, case) for case in (job.pair.fixed, job.pair.moving))
    method = PEERS.get(job.method) or with_engine(job.method, job.settings)
    moved: Moved = method(fixed, moving, labels)
    structures = job.pairs.structures or tuple(int(value) for value in torch.unique(truth.data) if value > 0)
    scores = dice(moved.labels.long(), truth.data.long(), structures)
    watch = moved.watch
    return Found(job, float(np.nanmean(list(scores.values()))), moved.folds_percent, watch.seconds, watch.cpu_seconds)


def run(jobs: Sequence[Job], processes: int) -> list[Found]:
    """Do all jobs; the methods take turns, so that other load on the machine hurts all of them alike."""
    found = []
    with ProcessPoolExecutor(processes, get_context("spawn"), start_worker) as pool:
        for count, future in enumerate(as_completed([pool.submit(work, job) for job in jobs]), 1):
            one = future.result()
            found.append(one)
            pair = f"{one.job.pair.fixed} <- {one.job.pair.moving}"
            say(f"{count:4d}/{len(jobs)}  {pair:34s} {one.job.method:12s} {one.dice:.4f}  {one.cpu_seconds:.1f} s")
    return found


def row(set_name: str, method: str, found: Sequence[Found]) -> dict[str, object]:
    """A line of the table."""
    scores = [one.dice for one in found]
    return {
        "set": set_name,
        "method": method,
        "pairs": len(found),
        "dice": np.mean(scores),
        "median": np.median(scores),
        "minimum": np.min(scores),
        "folds_percent": np.mean([one.folds_percent for one in found]),
        "cpu_s": np.mean([one.cpu_seconds for one in found]),
        "wall_s": np.mean([one.seconds for one in found]),
    }


def verdicts(rows: Sequence[dict[str, object]]) -> list[Bar]:
    """Ours against greedy, set by set."""
    at = {(str(line["set"]), str(line["method"])): line for line in rows}
    bars = []
    for name in dict.fromkeys(set_name for set_name, _ in at):
        ours, theirs = at.get((name, "svf")), at.get((name, "greedy"))
        if ours is None or theirs is None:
            continue
        mean, least, seconds = (
            [float(str(line[key])) for line in (ours, theirs)] for key in ("dice", "minimum", "cpu_s")
        )
        bars += [
            Bar(f"{name}: svf minus greedy, mean Dice", mean[0] - mean[1], BARS.get(name, 0.0), True),
            Bar(f"{name}: svf minus greedy, worst pair", least[0] - least[1], 0.0, True),
            Bar(
                f"{name}: svf over greedy, processor time",
                seconds[0] / seconds[1],
                SHARE_OF_GREEDY.get(name, 1.0),
                False,
            ),
        ]
    return bars


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, tuple(found) if isinstance(found := json.loads(value), list) else found


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="sets of scans (default: all)")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=[], help="tools of others (default: none)")
    parser.add_argument("--engines", nargs="*", default=["svf"], help="engines of covoxel (default: svf)")
    parser.add_argument("--choose", action="store_true", help="pairs for choosing settings, not those of the table")
    parser.add_argument("--most", type=int, help="the first so many pairs of each set (default: all)")
    parser.add_argument("--set", type=_setting, nargs="*", default=[], help="settings of the engines, NAME=JSON")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each (default 2)")
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=options.processes, threads=1)
    sets = {name: pairs_of(name, "choose" if options.choose else "show", options.most) for name in options.sets}
    methods = [*options.engines, *options.peers]
    jobs = [
        Job(name, pairs, pair, method, {} if method in PEERS else dict(options.set))
        for name, pairs in sets.items()
        for pair in pairs.pairs
        for method in methods
    ]
    found = run(jobs, options.processes)
    of = {
        key: [one for one in found if (one.job.set_name, one.job.method) == key]
        for key in ((name, method) for name in sets for method in methods)
    }
    rows = [row(*key, some) for key, some in of.items()]
    common.finish(rows, verdicts(rows), options.output, NOTES)


if __name__ == "__main__":
    main()
