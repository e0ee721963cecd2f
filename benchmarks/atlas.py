"""Templates: of hippocampus cases against ANTs', of six slices, their memory, their order, and the route through them.

Run from the project's root: python -m benchmarks.atlas --output atlas.tsv
and with --slices, --memory, --permute or --route for the others.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import atlas_route, atlas_slices, common
from benchmarks.atlas_build import ANTS, COVOXEL
from benchmarks.atlas_scores import JUDGES, scores
from benchmarks.common import ROOT, Bar
from benchmarks.measure import say, thread_environment, use_threads
from covoxel.io import read_image, write_image
from covoxel.preprocessing import normalise
from covoxel.spatial import Image

FEW, MANY = 10, 160
SECONDS = ("seconds", "cpu_seconds")
HALF, WITHIN, CHANGE_PERCENT = 0.5, 1.1, 0.1
NOTES = (
    "judge: who brings all cases onto the finished template, ours and ANTs' alike, for the columns after it.",
    "sharpness: mean length of the gradient, SD of the template a mm. off_centre_mm: RMS over voxels of the mean",
    "  displacement of all cases, affine part included; bent_off_mm: of the deformable part alone.",
    "dice: of the labels of all pairs of cases on the template, mean over anterior and posterior.",
    "seconds: of the building alone, reading of files included, in a process of so many threads; cpu_seconds: of the",
    "  processor, which others on the machine disturb less.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--slices", action="store_true", help="a template of the six slices")
    what.add_argument("--memory", action="store_true", help=f"peak memory of {FEW} against {MANY} cases")
    what.add_argument("--permute", action="store_true", help="the same cases in another order, under other names")
    what.add_argument("--route", action="store_true", help="few-shot through a template against directly")
    parser.add_argument("--cases", type=int, default=40, help="unlabelled cases of split.json (default 40)")
    parser.add_argument("--iterations", type=int, default=4, help="deformable iterations of both (default 4)")
    parser.add_argument("--threads", type=int, default=1, help="of every process (default 1)")
    parser.add_argument("--picture", type=Path, help="with --slices: PNG file for the picture")
    atlas_route.add_arguments(parser)
    options = common.arguments(parser, argv)
    use_threads(options.threads)
    common.describe_run(seed=options.seed, processes=1, threads=options.threads)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        others = {"slices": atlas_slices.run, "memory": memory, "permute": permute, "route": atlas_route.run}
        chosen = next((run for name, run in others.items() if getattr(options, name)), against_ants)
        rows, bars, notes = chosen(options)
        common.finish(rows, bars, options.output, notes)


Result = tuple[list[dict[str, Any]], list[Bar], Iterable[str]]


def against_ants(options: argparse.Namespace) -> Result:
    """Both templates, scored by both judges."""
    cases = _cases(options.cases)
    source, folder = common.data_folder("hippocampus"), options.folder / "images"
    images = prepare(source, cases, folder)
    labels = {case: source / "labels" / f"{case}.nii.gz" for case in cases}
    rows = []
    for method in (COVOXEL, ANTS):
        facts = build(method, folder, options.folder / method, options)
        say(f"{method}: {facts['seconds']:.1f} s")
        for judge in JUDGES:
            found = scores(options.folder / method / "template.nii.gz", images, labels, judge, options.seed)
            rows.append({"template": method, "judge": judge, **asdict(found), **{n: facts[n] for n in SECONDS}})
    by = {(row["template"], row["judge"]): row for row in rows}
    bars = []
    for judge in JUDGES:
        ours, theirs = by[COVOXEL, judge], by[ANTS, judge]
        bars.append(
            Bar(f"{judge}: off centre, mm, against ANTs'", ours["off_centre_mm"], theirs["off_centre_mm"], False)
        )
        bars.append(Bar(f"{judge}: Dice on the template, against ANTs'", ours["dice"], theirs["dice"], True))
    bars.append(Bar("sharpness, against ANTs'", ours["sharpness"], theirs["sharpness"], True))
    bars.append(Bar("seconds, against half of ANTs'", ours["seconds"], HALF * theirs["seconds"], False))
    return rows, bars, NOTES


def memory(options: argparse.Namespace) -> Result:
    """Peak memory of few cases and of many."""
    split = json.loads((common.data_folder("hippocampus") / "split.json").read_text(encoding="utf-8"))
    every = [*split["unlabelled"], *split["atlases"]]
    options.iterations, rows = 2, []
    for count in (FEW, MANY):
        prepare(common.data_folder("hippocampus"), every[:count], options.folder / str(count))
        out = options.folder / f"{count}-template"
        facts = build(COVOXEL, options.folder / str(count), out, options, "--rounds", "1", "--quick")
        rows.append({"cases": count, "peak_gib": facts["peak_gib"], "seconds": facts["seconds"]})
    ratio = rows[1]["peak_gib"] / rows[0]["peak_gib"]
    bar = Bar(f"peak memory of {MANY} cases, of that of {FEW}", ratio, WITHIN, False)
    return rows, [bar], ("Few steps a registration, one affine round and two iterations: memory depends on neither.",)


def permute(options: argparse.Namespace) -> Result:
    """The same cases in another order, under other names."""
    prepare(common.data_folder("hippocampus"), _cases(options.cases), options.folder / "images")
    found = []
    for name, more in (("forwards", ()), ("backwards", ("--backwards",))):
        build(COVOXEL, options.folder / "images", options.folder / name, options, *more)
        found.append(read_image(options.folder / name / "template.nii.gz").data.double().numpy())
    change = 100 * float(np.abs(found[0] - found[1]).max() / np.ptp(found[0]))
    return (
        [{"cases": options.cases, "largest_change_percent": change}],
        [Bar("largest change of a voxel, % of the template's range", change, CHANGE_PERCENT, False)],
        (),
    )


def build(method: str, images: Path, output: Path, options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Build a template in a process of its own; what is known of it."""
    command = [sys.executable, "-m", "benchmarks.atlas_build", method, str(images), str(output), *more]
    command += ["--iterations", str(options.iterations), "--threads", str(options.threads), "--seed", str(options.seed)]
    environment = dict(os.environ) | thread_environment(options.threads)
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"{method} ended with status {done.returncode}")
    facts: dict[str, Any] = json.loads((output / "facts.json").read_text(encoding="utf-8"))
    return facts


def prepare(source: Path, cases: Sequence[str], folder: Path) -> dict[str, Path]:
    """Images of 0 to 1 of the cases, as both methods are given them."""
    paths = {}
    for case in cases:
        image = read_image(source / "images" / f"{case}.nii.gz")
        paths[case] = folder / f"{case}.nii.gz"
        write_image(paths[case], Image(normalise(image), image.grid))
    return paths


def _cases(count: int) -> list[str]:
    split = json.loads((common.data_folder("hippocampus") / "split.json").read_text(encoding="utf-8"))
    return list(split["unlabelled"][:count])


if __name__ == "__main__":
    main()
