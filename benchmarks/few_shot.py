"""`few-shot` with a jointly trained network, from the command line to the scores, on the hippocampus set.

Run from the project's root: python -m benchmarks.few_shot --atlases 10 --segmenter auto --correct --output few_shot.tsv
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import ROOT, Bar
from benchmarks.few_shot_cohort import Roles, recipe_of, write_cohort, write_settings, write_truth
from benchmarks.few_shot_planted import WRONG_SIGN
from benchmarks.few_shot_scores import ALONE, FINAL, JOINT, networks_alone, rows_of
from benchmarks.fusion_evidence import Cohort
from benchmarks.measure import Stopwatch
from benchmarks.sweep_recipes import two_networks
from tasks.joint_facts import joint_facts
from tasks.layout import Layout

LEAST_DICE, BAR_AT = 0.875, 10
MOST_LOST = 0.01
DONE, SOME_FAILED = 0, 3
NOTES = (
    "result: final: what `few-shot` leaves in segmentations/; the others: its candidates, of all cases; + is a mean.",
    "dice: mean over anterior and posterior, then over the cases; low, high: bootstrap interval of the mean, 95 %,",
    "  cases drawn again. p5, minimum: over the cases. kept: of so many cases it became the result.",
    "segmentation alone: the network before the joint phase; joint network without the alarm: after it.",
    "seconds: of the whole command, with what it found done already.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlases", type=int, default=10, help="the first so many of split.json (default 10)")
    parser.add_argument("--unlabelled", type=int, default=144, help="cases without a label (default 144)")
    parser.add_argument("--limit", type=int, help="only the first so many test cases")
    who = ("joint", "nnunet", "auto")
    parser.add_argument("--segmenter", choices=who, default="auto", help="who segments (default auto)")
    parser.add_argument("--networks", default="joint", help="what auto compares: joint, nnunet or joint,nnunet")
    parser.add_argument("--recipe", default="deepatlas-fused", help="name or YAML file (default deepatlas-fused)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps of the recipe (default 1)")
    parser.add_argument("--correct", action="store_true", help="correct fused labels, as `few-shot --correct` does")
    parser.add_argument("--plant", choices=("wrong-sign",), help="train with a registration network of the wrong sign")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto (default cpu)")
    parser.add_argument("--processes", type=int, default=2, help="cases at once (default 2)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("output/few-shot"),
        help="folder of runs; what is there is not done again (default output/few-shot)",
    )
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=options.processes, threads=1)
    run = Run(options)
    seconds = run.seconds()
    rows = run.rows()
    rows[0]["seconds"] = seconds
    common.finish(rows, run.bars(rows), options.output, NOTES)


class Run:
    """One call of the command line.

    Parameters
    ----------
    options
        Of the benchmark.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        source = common.data_folder("hippocampus")
        split = json.loads((source / "split.json").read_text(encoding="utf-8"))
        self.roles = Roles(
            tuple(split["atlases"][: options.atlases]),
            tuple(split["unlabelled"][: options.unlabelled]),
            tuple(split["test"][: options.limit]),
        )
        self.recipe = recipe_of(options.recipe, options.seed, options.scale, WRONG_SIGN if options.plant else None)
        name = f"{self.recipe.name}-{options.segmenter}-{options.atlases}" + (f"-{options.plant}" * bool(options.plant))
        name += "-corrected" * options.correct + "-nnunet" * ("nnunet" in options.networks)
        self.folder = (options.work / name).resolve()
        self.layout = Layout(self.folder / "run")
        self.cohort = Cohort(source, self.folder, self.roles.atlases, self.roles.test)

    def seconds(self) -> float:
        """Do it; seconds of the clock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        module = "benchmarks.few_shot_planted" if self.options.plant else "flows"
        command = [sys.executable, "-m", module, "few-shot", "--segmenter", self.options.segmenter]
        command += ["--correct"] if self.options.correct else []
        for name, value in {
            "cohort": write_cohort(self.folder, self.cohort.source, self.roles),
            "atlases": ",".join(self.roles.atlases),
            "output": self.layout.output,
            "settings": write_settings(self.folder, self.recipe, self.options.networks.split(",")),
            "evaluate": write_truth(self.folder, self.cohort.source, self.roles.test),
            "device": self.options.device,
            "workers": self.options.processes,
        }.items():
            command += [f"--{name}", str(value)]
        with Stopwatch() as watch:
            done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), check=False)
        if done.returncode not in (DONE, SOME_FAILED):
            raise SystemExit(f"few-shot ended with status {done.returncode}")
        return watch.seconds

    def rows(self) -> list[dict[str, Any]]:
        """The table; with planted trouble, the networks by themselves too."""
        rows = rows_of(self.layout, self.cohort, self.options.seed)
        if self.options.plant:
            rows += networks_alone(self.layout, self.cohort, two_networks(self.recipe), self.options.seed)
        return rows

    def bars(self, rows: Sequence[dict[str, Any]]) -> list[Bar]:
        """What was promised of the result, or of the alarm."""
        dice = {str(row["result"]): float(row["dice"]) for row in rows}
        if self.options.plant:
            hurt = joint_facts(self.layout.model(self.recipe.name)).hurt
            lost = dice[ALONE] - dice[JOINT]
            return [
                Bar("planted: structures for which the alarm fires", len(hurt), 1, True),
                Bar("planted: Dice lost by the network that is used, to segmentation alone", lost, MOST_LOST, False),
            ]
        if self.options.atlases != BAR_AT:
            return []
        return [Bar(f"N = {BAR_AT}: few-shot from end to end, Dice", dice[FINAL], LEAST_DICE, True)]


if __name__ == "__main__":
    main()
