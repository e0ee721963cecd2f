"""nnU-Net on labels that were fused, on the hippocampus set: 10 labels alone, with 144 fused, and the ceiling.

Run from the project's root: python -m benchmarks.nnunet --minutes 25 --fused RUN --output nnunet.tsv
How fast a cohort is predicted by a model that a row left: python -m benchmarks.nnunet --predict
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.fusion_evidence import Cohort
from benchmarks.nnunet_cohort import ALONE, FUSED, ROWS, Hippocampus
from benchmarks.nnunet_predict import speed
from benchmarks.nnunet_row import Budget, Row, held_apart
from benchmarks.sweep_plan import HELD_OUT, TEST, roles_of
from covoxel.external.nnunet import PROFILES, Weighting, profile

LEAST_DICE, LEAST_GAIN, LEAST_SPEED = 0.87, 0.01, 3.0
NOTES = (
    "result: alone: the atlases; fused: these and all unlabelled cases with fused labels and their confidence;",
    "  ceiling: all 20 atlases and the true labels of the unlabelled cases. Same profile, same budget.",
    "dice: mean over anterior and posterior, then over the cases; low, high: bootstrap interval of the mean, 95 %,",
    "  cases drawn again. p5, minimum: over the cases. train: cases that trained. minutes: of training.",
    "predict_s: seconds a case of prediction, 0 if it was there.",
)
SPEED_NOTES = ("loads: how often a model was loaded. minutes_for_200: with all that is done once, extrapolated.",)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="which rows (default all)")
    parser.add_argument("--profile", choices=tuple(PROFILES), default="cpu", help="size of the network (default cpu)")
    parser.add_argument("--steps", type=int, help="of training (default: the profile's)")
    parser.add_argument("--minutes", type=float, help="of training instead: as many steps as they hold")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=JSON", help="other fields of the profile")
    for field in fields(Weighting):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=field.default, help="of Weighting")
    parser.add_argument("--fused", type=Path, help="finished run of few-shot (default: run it, into --work)")
    parser.add_argument("--atlases", type=int, default=10, help="the first so many of split.json (default 10)")
    parser.add_argument("--unlabelled", type=int, help="only the first so many unlabelled cases")
    parser.add_argument("--cases", choices=(TEST, HELD_OUT), default=TEST, help="who is scored (default test)")
    parser.add_argument("--limit", type=int, help="only the first so many of them")
    parser.add_argument("--predict", action="store_true", help="time the prediction of a cohort, train nothing")
    parser.add_argument("--processes", type=int, default=3, help="cases predicted by one process each (default 3)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=2, help="of training (default 2)")
    parser.add_argument("--work", type=Path, default=Path("output/nnunet"), help="what is there is not done again")
    options = common.arguments(parser, argv)
    torch.set_num_threads(options.threads)
    common.describe_run(seed=options.seed, processes=1, threads=options.threads)
    run = Run(options)
    if options.predict:
        rows = run.speed()
        common.finish(rows, _speed_bars(rows), options.output, SPEED_NOTES)
    else:
        rows = run.rows()
        common.finish(rows, _bars(rows), options.output, NOTES)


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
        roles, atlases = roles_of(split, options.cases, options.limit), tuple(split["atlases"])
        unlabelled = roles.unlabelled[: options.unlabelled]
        held_apart((*atlases, *unlabelled), roles.scored)
        first, more = atlases[: options.atlases], atlases[options.atlases :]
        fused = None if options.fused is None else options.fused.resolve()
        self.data = Hippocampus(source, first, more, unlabelled, fused)
        self.cohort = Cohort(source, options.work, first, roles.scored)
        self.work = (options.work / f"{options.profile}-{options.cases}-{options.atlases}").resolve()

    def rows(self) -> list[dict[str, Any]]:
        """Train and score each row."""
        return [self._row(name).result(self.data, self.cohort) for name in self.options.rows]

    def speed(self) -> list[dict[str, Any]]:
        """Time the prediction by the first model that is there."""
        models = [self._row(name).model for name in self.options.rows if self._row(name).model.is_dir()]
        if not models:
            raise SystemExit(f"{self.work} must have a model of one of the rows; run it without --predict first")
        images = [self.data.image(case) for case in self.cohort.cases]
        return speed(models[0], images, self.options.processes)

    def _row(self, name: str) -> Row:
        options = self.options
        weighting = Weighting(**{field.name: getattr(options, field.name) for field in fields(Weighting)})
        how = profile(options.profile, **dict(_field(text) for text in options.set))
        how = replace(how, save_every=min(how.save_every, how.epochs))
        budget = Budget(options.steps, options.minutes)
        return Row(name, self.work / name, how, budget, weighting, options.seed, options.device)


def _field(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        found = json.loads(value)
    except ValueError:
        found = value
    return name, tuple(found) if isinstance(found, list) else found


def _bars(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    dice = {str(row["result"]): float(row["dice"]) for row in rows}
    if FUSED not in dice:
        return []
    found = [Bar("10 labels and fused ones, Dice", dice[FUSED], LEAST_DICE, True)]
    if ALONE in dice:
        found.append(Bar("gained by fused labels, Dice", dice[FUSED] - dice[ALONE], LEAST_GAIN, True))
    return found


def _speed_bars(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    cohort, alone = rows
    ratio = float(cohort["cases_a_minute"]) / float(alone["cases_a_minute"])
    return [
        Bar("times the cases a minute of a process a case", ratio, LEAST_SPEED, True),
        Bar("times a model was loaded for the cohort", float(cohort["loads"]), 1, False),
    ]


if __name__ == "__main__":
    main()
