"""Memory of one step of each network of a joint training, in a process of its own.

Run by benchmarks.joint_memory: python -m benchmarks.joint_memory_step JOB.json FOUND.json
"""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.held import Held
from benchmarks.league_process import run_module
from benchmarks.measure import Stopwatch, peak_gib
from covoxel.io import write_json
from covoxel.spatial.smoothing import gaussian
from covoxel.training.joint import FusedLabels, JointRecipe
from covoxel.training.joint.loop import JointCall, JointTraining
from covoxel.training.joint.material import Material
from covoxel.training.joint.turns import turn_at
from covoxel.training.registration import TrainingCase
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import make_fabric
from tasks.joint_recipe import build_networks, find_joint_recipe, load_joint_recipe

CASES = 4
GIB = 2**30


@dataclass(frozen=True)
class Job:
    """What is measured.

    Parameters
    ----------
    recipe
        Name or file of a joint recipe of two networks.
    shape
        Of the images, voxels.
    labels
        Number of labels, background included.
    recompute
        Whether features are computed again in place of being kept.
    single
        Whether one pair goes through a network at once, gradients added up, in place of the batch.
    patch
        Sides of the patches; None: whole images.
    device
        "cpu" or "cuda".
    counted
        Count what tensors hold, in place of asking the machine.
    """

    recipe: str
    shape: tuple[int, ...]
    labels: int = 3
    recompute: bool = False
    single: bool = False
    patch: tuple[int, ...] | None = None
    device: str = "cpu"
    counted: bool = False


def measure(job: Job, path: Path, *, threads: int) -> dict[str, float]:
    """Peak GiB of each network's step, of the whole process (of the device, on a GPU), and seconds of the steps."""
    found: dict[str, float] = run_module("benchmarks.joint_memory_step", asdict(job), path, threads=threads)
    return found


def cases_of(job: Job) -> list[TrainingCase]:
    """Smooth noise; the labels of half of them are layers of it."""
    noise = torch.randn(CASES, 1, *job.shape, generator=torch.Generator().manual_seed(0))
    images = gaussian(noise, [2.0] * len(job.shape))[:, 0]
    images = (images - images.min()) / (images.max() - images.min())
    mask = torch.ones(job.shape, dtype=torch.bool)
    return [
        TrainingCase(f"case-{number}", image, mask, layers(image, job.labels) if number < CASES // 2 else None)
        for number, image in enumerate(images)
    ]


def layers(image: torch.Tensor, labels: int) -> torch.Tensor:
    """Places of all labels, by intensity; background is the darker half."""
    return (2 * (image - 0.5) * labels).ceil().clamp(0, labels - 1).long()


def training_of(job: Job) -> JointTraining:
    """A joint training at the beginning of its joint phase."""
    recipe = load_joint_recipe(find_joint_recipe(job.recipe))
    if not isinstance(recipe, JointRecipe):
        raise SystemExit(f"recipe {job.recipe} must be of two networks")
    recipe = replace(recipe, patch=job.patch)
    cases = cases_of(job)
    fused = {case.id: FusedLabels(layers(case.image, job.labels)) for case in cases if case.labels is None}
    material = Material(cases, job.labels, fused)
    registration, segmentation, discriminator = build_networks(recipe, len(job.shape), job.labels)
    spacing = (1.0,) * len(job.shape)
    call = JointCall(
        registration, segmentation, material, (material, ()), recipe, spacing, job.recompute, discriminator
    )
    training = JointTraining(call, Files(None, math.inf, None, None), make_fabric(torch.device(job.device), "32-true"))
    training.state.phase = list(call.phases).index("joint")
    if job.single:
        for machine in training.machines.values():
            machine.rows = 1
    return training


def stepped(training: JointTraining, counted: bool) -> dict[str, float]:
    """One step of each network; GiB of each, if they are counted."""
    recipe, found = training.recipe, dict[str, float]()
    order = [turn_at(done, training.length, "joint", recipe).name for done in range(training.length)]
    for name in training.machines:
        training.state.done = order.index(name)
        with Held() if counted else nullcontext() as held:
            training.step()
        if held is not None:
            found[f"{name}_gib"] = held.most / GIB
    return found


def main(argv: Sequence[str]) -> None:
    """Command line."""
    asked, path = (Path(argument) for argument in argv)
    data = json.loads(asked.read_text(encoding="utf-8"))
    job = Job(**data | {key: tuple(data[key]) for key in ("shape", "patch") if data[key] is not None})
    training = training_of(job)
    before = peak_gib()
    with Stopwatch() as watch:
        found = stepped(training, job.counted)
    peak = torch.cuda.max_memory_reserved() / GIB if job.device == "cuda" else peak_gib()
    weights = sum(p.nbytes for m in training.machines.values() for p in m.network.parameters()) / GIB
    write_json(
        path, {**found, "weights_gib": weights, "before_gib": before, "peak_gib": peak, "seconds": watch.seconds}
    )


if __name__ == "__main__":
    main(sys.argv[1:])
