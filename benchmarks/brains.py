"""Three brains pairwise and brains with a known warp: affine and svf beside ANTs SyN, in time, memory and accuracy.

Run from the project's root: python -m benchmarks.brains
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.known import diffeomorphism, errors_mm, noisy, seen_through
from benchmarks.measure import say
from benchmarks.pair import ANTS, measure
from covoxel.io import read_image, read_transform, write_image
from covoxel.metrics import folding
from covoxel.preprocessing import preprocess
from covoxel.spatial import Image, Transform, resample
from covoxel.spatial.field import displacement_vox_from_mm, jacobian_determinant

BRAINS = ("mni152", "colin27", "oasis")
WARP_MM, KERNEL_MM, GAMMA, NOISE = 3.0, 20.0, 1.25, 0.02
NOTES = (
    "All three images show the brain without skull, so the head mask (largest bright body, holes filled) of the fixed",
    "  image is its brain, and neither side is given a mask; both read the same preprocessed images.",
    "correlation: of the fixed image and the moving one, moved by linear interpolation through either side's",
    "  transform with the same code; head: inside the head mask of the fixed image, whole: all voxels.",
    "seconds: from images in memory to transforms on disk and a moved image (ANTs also writes and moves the inverse);",
    "  register_s: registration alone (ANTs: the same figure).",
    "peak_gib: largest resident memory of that process, interpreter and images included.",
    "folds_percent: determinant <= 0 on the fixed grid, all voxels.",
    f"known warp: the brain through exp(velocity), {WARP_MM:g} mm a component, kernel {KERNEL_MM:g} mm, and an affine",
    "  of 5 degrees and 3 % of size.",
    f"  Fixed: moved by cubic splines, contrast x^{GAMMA:g}, noise {NOISE:g}; moving: the brain with noise {NOISE:g}.",
    "  error_mm: distance of found from true positions, over the head mask of the fixed image (n/a for real pairs).",
)


@dataclass(frozen=True)
class Problem:
    """One pair to register; `truth` if the answer is known."""

    name: str
    fixed: Image
    moving: Image
    truth: Transform | None = None


def brain(name: str) -> Image:
    """One brain, canonical and normalised."""
    return preprocess(read_image(common.data_folder("brain") / f"{name}_T1w.nii.gz"))


def known_warp(name: str, seed: int) -> Problem:
    """A brain warped by a known diffeomorphism."""
    rng = np.random.default_rng([seed, BRAINS.index(name)])
    image = brain(name)
    truth = diffeomorphism(image.grid, rng, warp_mm=WARP_MM, kernel_mm=KERNEL_MM)
    fixed = seen_through(image, truth, rng, GAMMA, NOISE)
    return Problem(f"{name} warped", fixed, noisy(image, rng, NOISE), truth)


def problems(options: argparse.Namespace) -> list[tuple[str, Callable[[], Problem]]]:
    """Name of each problem and how to make it; made one at a time, as they are large."""
    couples = permutations(options.brains, 2) if options.all else combinations(options.brains, 2)
    made: list[tuple[str, Callable[[], Problem]]] = []
    for fixed, moving in couples if "pairs" in options.parts else ():
        name = f"{moving} to {fixed}"
        made.append((name, lambda n=name, f=fixed, m=moving: Problem(n, brain(f), brain(m))))  # type: ignore[misc]
    for name in options.brains if "known" in options.parts else ():
        made.append((f"{name} warped", lambda n=name: known_warp(n, options.seed)))  # type: ignore[misc]
    return made


def solve(problem: Problem, method: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Row of one method on one problem; the images lie in `folder`."""
    own = folder / method.replace(" ", "_")
    own.mkdir()
    cost = measure(method, folder / "fixed.nii", folder / "moving.nii", own, threads=options.threads, seed=options.seed)
    transform = found_transform(method, own, problem.fixed)
    mask = common.head_mask(problem.fixed)
    moved = resample(problem.moving, problem.fixed.grid, transform)
    regular = folding(transform)
    row: dict[str, object] = {
        "problem": problem.name,
        "method": method,
        "seconds": cost.seconds,
        "register_s": cost.registration_seconds,
        "cpu_s": cost.cpu_seconds,
        "peak_gib": cost.peak_gib,
        "correlation_head": correlation(moved, problem.fixed, mask),
        "correlation_whole": correlation(moved, problem.fixed, np.ones_like(mask)),
        "folds_percent": regular.percent,
        "sd_log_jacobian": regular.sd_log_jacobian,
        "error_mm": float("nan"),
        "p95_error_mm": float("nan"),
    }
    if problem.truth is not None:
        errors = errors_mm(transform, problem.truth, mask)
        row |= {"error_mm": errors.mean(), "p95_error_mm": np.percentile(errors, 95)}
    for file in own.iterdir():
        file.unlink()
    return row


def found_transform(method: str, folder: Path, fixed: Image) -> Transform:
    """Transform that a method left in `folder`."""
    if not method.startswith(ANTS):
        return read_transform(folder / "transform.h5", fixed.grid)
    warps = [file for file in sorted(folder.glob("ants_*Warp.nii.gz")) if "Inverse" not in file.name]
    return common.transform_of_ants([*warps, *folder.glob("ants_*.mat")], fixed.grid)


def correlation(moved: Image, fixed: Image, mask: NDArray[np.bool_]) -> float:
    """Pearson correlation inside `mask`."""
    return float(np.corrcoef(moved.data.numpy()[mask], fixed.data.numpy()[mask])[0, 1])


def describe_truth(problem: Problem) -> None:
    """Say how large a known warp is."""
    if problem.truth is None or problem.truth.displacement_mm is None:
        return
    mask = common.head_mask(problem.fixed)
    identity = Transform.identity(problem.fixed.grid)
    whole = errors_mm(identity, problem.truth, mask)
    warp = problem.truth.displacement_mm
    lengths = warp.norm(dim=0)[torch.from_numpy(mask)]
    determinant = jacobian_determinant(displacement_vox_from_mm(warp[None], problem.fixed.grid))
    say(
        f"  true motion {whole.mean():.2f} mm on average; its warp alone {float(lengths.mean()):.2f} mm, at most "
        f"{float(lengths.max()):.1f} mm, least determinant {float(determinant.min()):.2f}"
    )


def verdicts(rows: Sequence[dict[str, object]]) -> list[Bar]:
    """Hold svf against ANTs SyN, problem by problem."""
    bars: list[Bar] = []
    table = {(str(row["problem"]), str(row["method"])): row for row in rows}
    for problem in dict.fromkeys(name for name, _ in table):
        ours, theirs = table.get((problem, "svf")), table.get((problem, "ANTs SyN"))
        if ours is None:
            continue

        def number(row: dict[str, object], key: str) -> float:
            return float(str(row[key]))

        known = not np.isnan(number(ours, "error_mm"))
        bars.append(Bar(f"{problem}: folds of svf, %", number(ours, "folds_percent"), 0.01, False))
        bars.append(Bar(f"{problem}: memory of svf, GiB", number(ours, "peak_gib"), 4.0, False))
        if known:
            bars.append(Bar(f"{problem}: error of svf, mm", number(ours, "error_mm"), 0.6, False))
        if theirs is None:
            continue
        compared = [("seconds", False), *([("error_mm", False)] if known else [])]
        compared += [("correlation_whole", True), ("correlation_head", True)] if not known else []
        for key, at_least in compared:
            text = f"{problem}: {key} of svf beside ANTs SyN's"
            bars.append(Bar(text, number(ours, key), number(theirs, key), at_least))
    return bars


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brains", nargs="+", choices=BRAINS, default=list(BRAINS), help="(default all three)")
    parser.add_argument("--parts", nargs="+", choices=("pairs", "known"), default=["pairs", "known"])
    parser.add_argument("--all", action="store_true", help="all 6 ordered pairs instead of 3")
    parser.add_argument("--methods", nargs="+", default=["affine", "svf", "ANTs SyN"])
    parser.add_argument("--threads", type=int, default=2, help="of every method, one method at a time (default 2)")
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=1, threads=options.threads)
    rows: list[dict[str, object]] = []
    todo = problems(options)
    for count, (name, make) in enumerate(todo, 1):
        say(f"{count}/{len(todo)}  {name}")
        problem = make()
        describe_truth(problem)
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            write_image(folder / "fixed.nii", problem.fixed)
            write_image(folder / "moving.nii", problem.moving)
            for method in options.methods:
                row = solve(problem, method, folder, options)
                rows.append(row)
                facts = {k: v for k, v in row.items() if k not in ("problem", "method")}
                say(f"  {method:9s} " + "  ".join(f"{k} {v:.4g}" for k, v in facts.items()))
    common.finish(rows, verdicts(rows), options.output, NOTES)


if __name__ == "__main__":
    main()
