"""Few-shot through one or several templates against directly: how many registrations, how good the labels."""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import ROOT, Bar
from benchmarks.few_shot_cohort import Roles, write_cohort, write_truth
from benchmarks.measure import Stopwatch
from covoxel.io import read_table, write_text
from covoxel.manifest import Manifest

DIRECT, TEMPLATE = "direct", "template"
MOST_REGISTRATIONS, MOST_LOST = 0.2, 0.01
NOTES = (
    "registrations: deformable ones of two images; those of the atlases onto their template, iteration by iteration,",
    "  are counted too, affine ones and the short refinement of each pair are not. For cases: without those among",
    "  atlases. dice: mean over structures, then cases. register_seconds: of all stages up to the transforms, summed.",
    "templates: asked for; served: cases that each of them served. lost: Dice against direct.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the route."""
    parser.add_argument("--atlases", type=int, default=20, help="with --route: the first so many (default 20)")
    parser.add_argument("--role", choices=("test", "unlabelled"), default="test", help="with --route: who is scored")
    parser.add_argument("--targets", type=int, default=36, help="with --route: so many of them (default 36)")
    parser.add_argument("--rule", default="joint_label_fusion", help="with --route: fusion rule")
    parser.add_argument("--refine", type=int, default=5, help="with --route: steps of refinement a pair (default 5)")
    parser.add_argument(
        "--templates", type=int, nargs="+", default=[1], help="with --route: templates of the atlases (default 1)"
    )
    parser.add_argument("--processes", type=int, default=2, help="with --route: cases at once (default 2)")


def run(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Bar], Sequence[str]]:
    """All routes, from the command line to the scores."""
    direct = _row(DIRECT, 1, options)
    rows, bars = [direct | {"lost": 0.0}], []
    for count in options.templates:
        row = _row(TEMPLATE, count, options)
        share, lost = row["registrations"] / direct["registrations"], direct["dice"] - row["dice"]
        rows.append(row | {"lost": lost})
        named = f"through {count} template{'s' if count > 1 else ''}"
        bars.append(Bar(f"registrations {named}, of those directly", share, MOST_REGISTRATIONS, False))
        bars.append(Bar(f"Dice lost {named}", lost, MOST_LOST, False))
    return rows, bars, NOTES


def _row(route: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    source = common.data_folder("hippocampus")
    split = json.loads((source / "split.json").read_text(encoding="utf-8"))
    atlases, targets = split["atlases"][: options.atlases], split[options.role][: options.targets]
    folder = options.folder / f"{route}-{count}"
    settings = folder / "settings.yaml"
    folder.mkdir(parents=True)
    chosen = {"register": {"refine": options.refine}, "template": {"count": count}, "report": {"figures": 0}}
    write_text(settings, json.dumps(chosen))
    command = [sys.executable, "-m", "flows", "few-shot", "--route", route, "--rule", options.rule]
    for name, value in {
        "cohort": write_cohort(folder, source, Roles(tuple(atlases), (), tuple(targets))),
        "atlases": ",".join(atlases),
        "output": folder / "run",
        "settings": settings,
        "evaluate": write_truth(folder, source, targets),
        "device": "cpu",
        "workers": options.processes,
    }.items():
        command += [f"--{name}", str(value)]
    with Stopwatch() as watch:
        done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"few-shot by the route {route} ended with status {done.returncode}")
    scores = read_table(folder / "run" / "metrics.tsv").groupby("id")["dice"].mean()
    return {
        "route": route,
        "templates": count if route == TEMPLATE else 0,
        "served": served(folder / "run", targets),
        "atlases": len(atlases),
        "cases": len(targets),
        **registrations(folder / "run", set(targets)),
        "dice": float(scores.mean()),
        "p5": float(np.percentile(scores, 5)),
        "seconds": watch.seconds,
    }


def registrations(output: Path, cases: set[str]) -> dict[str, float]:
    """Deformable registrations that a run has done, those for the cases, and the seconds of all that led to them."""
    manifest = Manifest(output)
    stages = [path.name for path in (output / ".covoxel" / "manifest").iterdir()]
    counts, own, seconds = 0, 0, 0.0
    for stage in stages:
        if stage != "register" and not stage.startswith("atlases-"):
            continue
        for case in manifest.cases(stage):
            record = manifest.read(stage, case)
            if record is None:
                continue
            seconds += record.seconds
            done = 0
            if stage == "register":
                done = int(record.facts.get("registrations", len(record.facts["transforms"])))
            elif "-place-" in stage:
                done = int(record.settings["iteration"] >= 0)
            counts += done
            own += done if case in cases else 0
    return {"registrations": counts, "for_cases": own, "register_seconds": seconds}


def served(output: Path, cases: Sequence[str]) -> str:
    """How many cases each template served, "12+14+10"; empty where there were not several."""
    records = [Manifest(output).read("register", case) for case in cases]
    found = Counter(record.facts.get("template") for record in records if record is not None)
    return "+".join(str(found[number]) for number in sorted(number for number in found if number is not None))
