"""Ctrl-C in a pseudo-terminal in every stage of `few-shot`: how soon it ends, what it leaves, if the rest is right.

One run is interrupted in each stage in turn and goes on by the same call; another is left alone. Their label maps,
transforms and tables must be the same bits.

Run from the project's root: python -m benchmarks.interrupt --output interrupt.tsv
"""

import argparse
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.interrupt_call import Call, Ended
from benchmarks.measure import say
from covoxel.io import sha256_file
from covoxel.manifest import FolderLock
from data_catalog import make_synthetic_cohort

CASES, ATLASES = 7, 6
MOST_SECONDS = 10.0
COMPARED = ("segmentations", "transforms", "models")
TRAINED = {
    "method": "two tiny networks, which train long enough to be interrupted",
    "name": "tiny",
    "registration": {
        "network": "voxelmorph-1",
        "network_settings": {"head": "stationary", "encoder": [4], "decoder": [4], "half": 4, "last": [4]},
        "similarity": {"name": "ncc"},
        "supervision": "labels",
        "batch": 2,
        "warm_up": 0,
        "held_out": 0.0,
        "steps": 40,
    },
    "segmentation": {"network": "unet", "network_settings": {"widths": [2, 4]}, "warm_up": 0},
    "segmentation_steps": 40,
    "joint_steps": 40,
    "ratio": 1,
    "check_every": 20,
    "held_out": 1,
}
SETTINGS = """register: {{engine: svf, route: template}}
atlases: {{count: 5}}
template: {{iterations: 1}}
learn: {{epochs: 14}}
fuse: {{rule: select, candidates: [majority, locally_weighted, data_parameters], correct: true, correct_steps: 20}}
segment:
  segmenter: auto
  networks: [joint, nnunet]
  recipe: {recipe}
  views: 2
  nnunet:
    override: {{epochs: 2, iterations: 10, patch: [16, 16, 16], batch: 2, features: 4, most_features: 8, workers: 1}}
"""
NOTES = (
    "seconds: from the interruption, some time after the stage's bar was shown, to the end of the process.",
    "children, lock, unfinished: processes, hold on the folder and unfinished files that were left.",
)
HOWS = {"ctrl-c": None, "int": signal.SIGINT, "term": signal.SIGTERM, "hup": signal.SIGHUP}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=(*HOWS, "server"), default="ctrl-c", help="server: it is killed (ctrl-c)")
    parser.add_argument("--stages", help="only these, separated by commas; all without it")
    parser.add_argument("--after", type=float, default=0.5, help="seconds that a stage has run (default 0.5)")
    parser.add_argument("--work", type=Path, default=Path("output/interrupt"), help="folder of runs")
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=2, threads=1)
    call = _call(options.work)
    alone = call.run(options.work / "alone")
    say(f"left alone: status {alone.status}, stages {', '.join(alone.stages)}")
    wanted = options.stages.split(",") if options.stages else alone.stages
    output, rows = options.work / f"interrupted-{options.how}", []
    for stage in wanted:
        ended = call.run(output, stop_in=stage, after=options.after, by=HOWS.get(options.how, options.how))
        rows.append(_row(stage, ended, output))
        say("  ".join(f"{name} {value}" for name, value in rows[-1].items()))
    last = call.run(output)
    differing = _differing(options.work / "alone", output)
    say(f"gone on: status {last.status}; files that differ: {', '.join(differing) or 'none'}")
    common.finish(rows, _bars(pd.DataFrame(rows), last, differing), options.output, NOTES)


def _call(work: Path) -> Call:
    work.mkdir(parents=True, exist_ok=True)
    cohort = make_synthetic_cohort(work / "cohort", CASES, labelled=ATLASES, spacing_mm=6.0)
    recipe, settings = work / "tiny.yaml", work / "settings.yaml"
    recipe.write_text(json.dumps(TRAINED))
    settings.write_text(SETTINGS.format(recipe=recipe.resolve()))
    atlases = sorted(path.name.removesuffix(".nii.gz") for path in (cohort / "labels").glob("*.nii.gz"))
    asked = ["--cohort", str(cohort), "--atlases", ",".join(atlases), "--settings", str(settings), "--workers", "2"]
    return Call(["few-shot", *asked], work / "state")


def _row(stage: str, ended: Ended, output: Path) -> dict[str, object]:
    return {
        "stage": stage,
        "seconds": round(ended.seconds, 2),
        "status": ended.status,
        "children": ended.left,
        "lock": FolderLock(output).holder() or "free",
        "unfinished": len(list(output.rglob(".tmp-*"))),
        "traceback": "Traceback" in ended.heard,
        "last line": ended.last_line,
    }


def _differing(one: Path, other: Path) -> list[str]:
    """Paths of results that are not the same bytes in both; sidecars and cards hold times and are left out."""

    def hashes(folder: Path) -> dict[str, str]:
        files = [path for part in COMPARED for path in (folder / part).rglob("*")] + list(folder.glob("*.tsv"))
        kept = [path for path in files if path.name.endswith((".nii.gz", ".h5", ".mat", ".tsv", ".safetensors"))]
        return {path.relative_to(folder).as_posix(): sha256_file(path) for path in kept}

    first, second = hashes(one), hashes(other)
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def _bars(table: pd.DataFrame, last: Ended, differing: Sequence[str]) -> list[Bar]:
    clean = (table["children"] == 0) & (table["lock"] == "free") & (table["unfinished"] == 0) & ~table["traceback"]
    return [
        Bar("seconds to the end, at most", float(table["seconds"].max()), MOST_SECONDS, at_least=False),
        Bar("runs that ended with another status than 1", int((table["status"] != 1).sum()), 0, at_least=False),
        Bar("runs that left a child, a lock, half a file or a traceback", int((~clean).sum()), 0, at_least=False),
        Bar("status of the run that went on", float(last.status or 0), 0, at_least=False),
        Bar("files that differ from those of the run left alone", len(differing), 0, at_least=False),
    ]


if __name__ == "__main__":
    main()
