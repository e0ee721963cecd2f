"""Single-atlas registration of the hippocampus set: identity, affine and svf beside ANTs SyN, on the same cores.

Run from the project's root: python -m benchmarks.registration --atlases 10 --cases 12
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.measure import Stopwatch, import_ants, say, use_threads
from covoxel.fusion.base import smallest_winner
from covoxel.io import read_image, read_labels, write_image, write_labels
from covoxel.metrics import dice, folding, summarise
from covoxel.preprocessing import canonical, preprocess
from covoxel.registration import register
from covoxel.spatial import Image, Transform, resample_probabilities

STRUCTURES = {1: "anterior", 2: "posterior"}
LINEAR = "linear indicators"
GENERIC = "genericLabel"
NOTES = (
    "Dice: of one atlas alone, all atlases x cases; mean to minimum are of the mean over the two structures.",
    "labels: how label maps are warped. 'linear indicators': every label's indicator linearly, then the largest (used",
    "  for both sides); 'genericLabel': ANTs' own. Majority: argmax of the mean over the atlases.",
    "ANTs samples at random and loses a few pairs altogether, other ones with another --seed: its mean moves by 0.01.",
    "registration_s, cpu_s: wall clock and processor seconds a pair inside the registration call, images in memory;",
    "  ANTs' call includes warping the images and writing its transforms, ours does not.",
    "Folds: determinant <= 0 by central differences on the fixed grid, mean over pairs.",
)


@dataclass(frozen=True)
class Job:
    """One fixed case, all atlases, one method."""

    method: str
    case: str
    atlases: tuple[str, ...]
    folder: Path
    truth: Path
    seed: int


@dataclass(frozen=True)
class Registered:
    """What one job found: for each way of warping labels the Dice, and how regular and how quick it was."""

    method: str
    single: dict[str, list[list[float]]]
    majority: dict[str, list[float]]
    folds_percent: list[float]
    sd_log_jacobian: list[float]
    seconds: float
    cpu_seconds: float


def prepare(source: Path, cases: Sequence[str], folder: Path) -> None:
    """Write the preprocessed images, and the labels on their grids, which both sides read."""
    for case in cases:
        write_image(folder / f"{case}.nii", preprocess(read_image(source / "images" / f"{case}.nii.gz")))
        write_labels(folder / f"{case}_labels.nii", canonical(read_labels(source / "labels" / f"{case}.nii.gz")))


def start_worker(seed: int) -> None:
    """One thread, and both libraries loaded before anything is timed."""
    use_threads(1)
    torch.set_num_threads(1)
    import_ants(seed)


def work(job: Job) -> Registered:
    """Register, then score; only the registration is timed."""
    fixed = read_image(job.folder / f"{job.case}.nii")
    run = _with_ants if job.method.startswith("ANTs") else _with_covoxel
    transforms, probabilities, watch = run(job, fixed)
    truth = canonical(read_labels(job.truth)).data
    single = {way: [_scores(smallest_winner(p), truth) for p in stack] for way, stack in probabilities.items()}
    majority = {way: _scores(smallest_winner(stack.mean(0)), truth) for way, stack in probabilities.items()}
    regular = [folding(transform) for transform in transforms]
    pairs = len(transforms)
    return Registered(
        job.method,
        single,
        majority,
        [f.percent for f in regular],
        [f.sd_log_jacobian for f in regular],
        watch.seconds / pairs,
        watch.cpu_seconds / pairs,
    )


def _with_covoxel(job: Job, fixed: Image) -> tuple[list[Transform], dict[str, Tensor], Stopwatch]:
    moving = [read_image(job.folder / f"{atlas}.nii") for atlas in job.atlases]
    with Stopwatch() as watch:
        transforms = register(job.method, fixed, moving)
    return transforms, {LINEAR: _linear(job, fixed, transforms)}, watch


def _with_ants(job: Job, fixed: Image) -> tuple[list[Transform], dict[str, Tensor], Stopwatch]:
    ants = import_ants(job.seed)
    target = ants.image_read(str(job.folder / f"{job.case}.nii"))
    moving = [ants.image_read(str(job.folder / f"{atlas}.nii")) for atlas in job.atlases]
    kind = job.method.removeprefix("ANTs ")
    with Stopwatch() as watch:
        results = [ants.registration(target, image, type_of_transform=kind) for image in moving]
    transforms, own = [], []
    for atlas, result in zip(job.atlases, results, strict=True):
        files = result["fwdtransforms"]
        transforms.append(common.transform_of_ants(files, fixed.grid))
        labels = ants.image_read(str(job.folder / f"{atlas}_labels.nii"))
        warped = ants.apply_transforms(target, labels, files, interpolator=GENERIC)
        label_map = torch.from_numpy(warped.numpy()).round().long()
        own.append(torch.stack([label_map == value for value in (0, *STRUCTURES)]).float())
        common.remove_files([*files, *result["invtransforms"]])
    return transforms, {LINEAR: _linear(job, fixed, transforms), GENERIC: torch.stack(own)}, watch


def _linear(job: Job, fixed: Image, transforms: Sequence[Transform]) -> Tensor:
    """Interpolated indicators, `(atlas, label, *shape)`."""
    values = torch.tensor([0, *STRUCTURES])
    labels = [read_labels(job.folder / f"{atlas}_labels.nii") for atlas in job.atlases]
    return torch.stack(
        [resample_probabilities(m, values, fixed.grid, t) for m, t in zip(labels, transforms, strict=True)]
    )


def _scores(label_map: Tensor, truth: Tensor) -> list[float]:
    found = dice(label_map, truth, list(STRUCTURES))
    return [found[value] for value in STRUCTURES]


def rows_of(method: str, found: Sequence[Registered]) -> list[dict[str, object]]:
    """One row for each way of warping labels."""
    rows: list[dict[str, object]] = []
    for way in found[0].single:
        single = np.array([scores for job in found for scores in job.single[way]])
        majority = np.array([job.majority[way] for job in found])
        tails = summarise(single.mean(1))
        rows.append(
            {
                "method": method,
                "labels": way,
                **{name: single[:, i].mean() for i, name in enumerate(STRUCTURES.values())},
                "mean": tails.mean,
                "median": tails.median,
                "p5": tails.p5,
                "minimum": tails.minimum,
                "majority": majority.mean(),
                "folds_percent": np.mean([x for job in found for x in job.folds_percent]),
                "worst_folds_percent": np.max([x for job in found for x in job.folds_percent]),
                "sd_log_jacobian": np.mean([x for job in found for x in job.sd_log_jacobian]),
                "registration_s": np.mean([job.seconds for job in found]),
                "cpu_s": np.mean([job.cpu_seconds for job in found]),
                "pairs": len(single),
            }
        )
    return rows


def verdicts(rows: Sequence[dict[str, object]]) -> list[Bar]:
    """Hold svf against the better way of warping the labels of ANTs SyN."""
    ours = next((row for row in rows if row["method"] == "svf"), None)
    theirs = [row for row in rows if row["method"] == "ANTs SyN"]
    if ours is None or not theirs:
        return []

    def number(row: dict[str, object], key: str) -> float:
        return float(str(row[key]))

    best = max(number(row, "mean") for row in theirs)
    return [
        Bar("svf minus ANTs SyN (its better label warp), single-atlas Dice", number(ours, "mean") - best, 0.04, True),
        Bar("folded voxels of svf, %", number(ours, "folds_percent"), 0.05, False),
        Bar(
            "svf over ANTs SyN, wall seconds a pair",
            number(ours, "registration_s") / number(theirs[0], "registration_s"),
            0.5,
            False,
        ),
        Bar("svf over ANTs SyN, processor seconds", number(ours, "cpu_s") / number(theirs[0], "cpu_s"), 0.5, False),
    ]


def run(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Do all jobs; the methods take turns, so that other load on the machine hurts all of them alike."""
    source = common.data_folder("hippocampus")
    split = json.loads((source / "split.json").read_text(encoding="utf-8"))
    atlases, cases = tuple(split["atlases"][: options.atlases]), split["test"][: options.cases]
    prepare(source, [*atlases, *cases], folder)
    methods = [*options.engines, *(f"ANTs {kind}" for kind in options.ants)]
    jobs = [
        Job(method, case, atlases, folder, source / "labels" / f"{case}.nii.gz", options.seed)
        for case in cases
        for method in methods
    ]
    say(f"{len(atlases)} atlases x {len(cases)} test cases, {len(methods)} methods")
    found: dict[str, list[Registered]] = {method: [] for method in methods}
    with ProcessPoolExecutor(options.processes, get_context("spawn"), start_worker, (options.seed,)) as pool:
        for count, future in enumerate(as_completed([pool.submit(work, job) for job in jobs]), 1):
            result = future.result()
            found[result.method].append(result)
            scores = np.mean(next(iter(result.single.values())))
            say(f"{count:4d}/{len(jobs)}  {result.method:10s} Dice {scores:.3f}  {result.seconds:.2f} s a pair")
    return [row for method in methods for row in rows_of(method, found[method])]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlases", type=int, default=10, help="the first so many atlases of split.json (default 10)")
    parser.add_argument("--cases", type=int, default=12, help="the first so many test cases (default 12)")
    parser.add_argument("--engines", nargs="*", default=["identity", "affine", "svf"], help="with default settings")
    parser.add_argument("--ants", nargs="*", default=["SyN"], help="type_of_transform, such as SyN SyNCC (default SyN)")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each (default 2)")
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=options.processes, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(options, Path(folder))
    common.finish(rows, verdicts(rows), options.output, NOTES)


if __name__ == "__main__":
    main()
