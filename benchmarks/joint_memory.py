"""Memory of joint training: measured at 96^3 on the CPU, calculated (or measured, on a GPU) for a whole brain.

Run from the project's root: python -m benchmarks.joint_memory
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.joint_memory_step import Job, measure
from benchmarks.measure import say

CUBE, BRAIN = (96, 96, 96), (160, 192, 224)
SMALL, LARGER = (32, 32, 64), (64, 32, 64)
"""Images that are counted; from both, what is held for each voxel and what is held anyhow."""
CPU_GIB, GPU_GIB = 8.0, 24.0
SLACK, CONTEXT_GIB = 2.0, 1.0
"""What a GPU may need over what tensors hold: convolutions' scratch and fragments of free memory; CUDA itself.

On the CPU, at 96^3, the process takes 1.3 times what tensors hold, with recompute 1.8 times.
"""
NOTES = (
    "A step of each network, one after the other, in a process of its own; images of noise, half of them with true",
    "  labels, half with fused ones. What the images themselves take lies in the computer's memory and not on a GPU.",
    "measured: largest resident memory of that process (on a GPU: memory reserved), interpreter and images included.",
    "calculated: most bytes that tensors hold in a step, of two small images, carried on along the line of both to the",
    f"  voxels of a large one; {SLACK:g} times as much is taken for a GPU, and {CONTEXT_GIB:g} GiB.",
    "Labels are channels: with many of them (--labels) a whole brain needs patches.",
    "at once: pairs that go through a network together; the trainer halves them itself when memory ends.",
    "recompute: features are computed again in the backward pass. patch: pairs are cut to so many voxels.",
)


def text(shape: Sequence[int] | None) -> str:
    """Sides as people write them."""
    return "" if shape is None else "x".join(map(str, shape))


def measured(jobs: Sequence[Job], folder: Path, threads: int) -> Iterator[dict[str, object]]:
    """A row of each job, whole."""
    for job in jobs:
        found = measure(job, folder / "found.json", threads=threads)
        yield row(job, "measured", found["peak_gib"], found["seconds"])


def calculated(jobs: Sequence[Job], folder: Path, threads: int) -> Iterator[dict[str, object]]:
    """The same, from two small images; patches of a GPU's image are images of their own."""
    known: dict[Job, tuple[float, float]] = {}
    for job in jobs:
        kind = replace(job, patch=None, shape=SMALL, device="cpu", counted=True)
        if kind not in known:
            counts = [
                most(measure(replace(kind, shape=shape), folder / "found.json", threads=threads))
                for shape in (SMALL, LARGER)
            ]
            known[kind] = line(counts)
        anyhow, each = known[kind]
        held = anyhow + each * math.prod(job.patch or job.shape)
        yield row(job, "calculated", held * SLACK + CONTEXT_GIB, math.nan)


def most(found: dict[str, float]) -> float:
    """GiB of the network that needs most, and the weights of all."""
    steps = ("registration_gib", "segmentation_gib", "discriminator_gib")
    return max(found.get(name, 0.0) for name in steps) + found["weights_gib"]


def line(counts: Sequence[float]) -> tuple[float, float]:
    """GiB that are held anyhow, and for each voxel."""
    less, more = map(math.prod, (SMALL, LARGER))
    each = (counts[1] - counts[0]) / (more - less)
    return counts[0] - each * less, each


def row(job: Job, how: str, gib: float, seconds: float) -> dict[str, object]:
    """Of the table."""
    return {
        "image": text(job.shape),
        "patch": text(job.patch),
        "recompute": job.recompute,
        "at once": "one pair" if job.single else "batch",
        "device": job.device,
        "found": how,
        "gib": gib,
        "seconds": seconds,
    }


def bar(found: dict[str, object], limit: float) -> Bar:
    """Verdict on a row."""
    patch = f" in patches of {found['patch']}" if found["patch"] else ""
    recompute = "with" if found["recompute"] else "without"
    words = f"{found['image']}{patch}, {found['at once']}, {recompute} recompute, {found['device']} ({found['found']})"
    return Bar(f"{words}, GiB", float(str(found["gib"])), limit, False)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipe", default="deepatlas-fused", help="joint recipe of two networks (default %(default)s)"
    )
    parser.add_argument("--labels", type=int, default=3, help="labels, background included (default %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=("cube", "brain"), default=["cube", "brain"])
    parser.add_argument("--threads", type=int, default=2, help="of each process, one at a time (default %(default)s)")
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=1, threads=options.threads)
    cube = [Job(options.recipe, CUBE, options.labels, recompute) for recompute in (False, True)]
    brain = Job(options.recipe, BRAIN, options.labels, recompute=True, single=True, device="cuda")
    patches = replace(brain, single=False, patch=CUBE)
    brains = [brain, replace(patches, recompute=False), patches]
    rows, bars = [], []
    with tempfile.TemporaryDirectory() as name:
        find = measured if torch.cuda.is_available() else calculated
        parts = {"cube": (measured, cube, CPU_GIB), "brain": (find, brains, GPU_GIB)}
        for part in options.parts:
            how, jobs, limit = parts[part]
            for found in how(jobs, Path(name), options.threads):
                rows.append(found)
                bars.append(bar(found, limit))
                say(str(bars[-1]))
    common.finish(rows, bars, options.output, NOTES)


if __name__ == "__main__":
    main()
