"""The label sweep: how well cases are segmented, and registered, from 1 to 20 labels, by each way of using them.

Run from the project's root: python -m benchmarks.label_sweep --minutes 30 --output sweep.tsv
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks import common
from benchmarks.fusion_evidence import Cohort
from benchmarks.fusion_jobs import Workers
from benchmarks.measure import say
from benchmarks.sweep_carried import fuse_all
from benchmarks.sweep_figure import draw_figure
from benchmarks.sweep_job import SweepJob
from benchmarks.sweep_options import arguments
from benchmarks.sweep_plan import DEEPATLAS_FUSED, METHODS, REGISTRATION, draws_of, roles_of
from benchmarks.sweep_results import Scoring
from benchmarks.sweep_schedule import Budget, Schedule
from benchmarks.sweep_table import COLUMNS, GAINS, Result, differences, markdown, row_of
from benchmarks.sweep_verdicts import verdicts
from covoxel.io import write_table, write_text

NOTES = (
    "draw: of the atlases; 0 takes the first of split.json, the others draw; a training's seed is --seed + draw.",
    "dice: mean over anterior and posterior, then over the cases; low, high: bootstrap interval of the mean, 95 %,",
    "  cases drawn again. p5, minimum: over the cases. hd95_mm: mean over structures and cases, infinite if one is",
    "  missing in a case.",
    "minutes: of computing a training, with all of what others use too: the registration network that no label",
    "  taught, label maps fused to teach. Registration trains nothing.",
    "joint_label_fusion: registration, fused by that rule and not by locally_weighted. separate: the segmentation",
    "  network before the joint phase.",
    "registration_dice: of one atlas alone, its labels warped as linear indicators, all cases x atlases: by svf, or by",
    "  what the method trained. unsupervised_dice: the same by the registration network that no label taught.",
    "ndv_percent: volume turned inside out; folds_percent: determinants <= 0 by central differences; sd_log_jacobian.",
    "alpha: mean distance of the cross-stitch units from the identity; alpha_moved: from where they began.",
    "differences: by number of labels and structure, each case's mean over the draws that both methods have; Student's",
    "  interval over the cases, 95 %.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    options = arguments(argv, str(__doc__))
    common.describe_run(seed=options.seed, processes=options.processes, threads=options.cpu_threads)
    with tempfile.TemporaryDirectory() as folder:
        results = Sweep(options, Path(folder)).results()
    if not results:
        raise SystemExit("nothing was done: all trainings failed, see their logs")
    rows, gains = [row_of(result, options.seed) for result in results], differences(results)
    say()
    say(pd.DataFrame(gains).to_string(index=False, float_format=lambda x: f"{x:.4f}") if gains else "no differences")
    common.finish(rows, verdicts(results, gains, options.seed), options.output, NOTES)
    if options.output is not None:
        write_table(options.output.with_suffix(".differences.tsv"), pd.DataFrame(gains))
        tables = (markdown(rows, COLUMNS), markdown(gains, GAINS))
        write_text(options.output.with_suffix(".md"), "\n".join(tables))
        draw_figure(results, options.figure or options.output.with_suffix(".svg"))


class Sweep:
    """One run: what is asked for, and where it is kept.

    Parameters
    ----------
    options
        Of the command line.
    folder
        For temporary files.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.work = options, folder, options.work.resolve()
        source = common.data_folder("hippocampus")
        split = json.loads((source / "split.json").read_text(encoding="utf-8"))
        try:
            self.draws = draws_of(split["atlases"], options.labels, options.draws, options.seed)
        except ValueError as error:
            raise SystemExit(f"--labels: {error}") from None
        self.roles = roles_of(split, options.cases, options.limit)
        drawn = {atlas for draw in self.draws for atlas in draw.atlases}
        atlases = tuple(atlas for atlas in split["atlases"] if atlas in drawn)
        self.cohort = Cohort(source, folder, atlases, self.roles.scored)
        self.all_unlabelled = tuple(split["unlabelled"])

    def results(self) -> list[Result]:
        """Train, score, and put together."""
        options, draws = self.options, self.draws
        say(f"{len(draws)} draws x {len(options.methods)} methods, {len(self.roles.scored)} {options.cases} cases")
        fused = self._fused() if DEEPATLAS_FUSED in options.methods else {}
        budget = Budget(options.minutes, options.scale)
        schedule = Schedule(self._common(), self.work, budget, options.recipes, fused)
        finished = schedule.run(draws, options.methods, options.processes)
        with self._workers() as workers:
            scoring = Scoring(self.cohort, self.roles.unlabelled, self.work / "scores", options.views, workers)
            found = scoring.of_svf(draws) if REGISTRATION in options.methods else []
            found += scoring.of_trainings(finished)
        order = {method: place for place, method in enumerate(METHODS)}
        return sorted(found, key=lambda r: (r.draw.labels, r.draw.number, order[r.method]))

    def _fused(self) -> dict[str, Path]:
        """Folder of fused label maps of each draw; their names change with all unlabelled images, whoever trains."""
        cohort = replace(self.cohort, cases=self.all_unlabelled)
        with self._workers() as workers:
            folders = fuse_all(cohort, self.roles.unlabelled, self.draws, self.work, workers)
        return {draw.name: folder for draw, folder in zip(self.draws, folders, strict=True)}

    def _common(self) -> SweepJob:
        """What all trainings share."""
        options, source, unlabelled = self.options, self.cohort.source, self.roles.unlabelled
        return SweepJob("", "", source, (), unlabelled, 1.0, options.seed, options.cpu_threads, options.device)

    def _workers(self) -> Workers:
        return Workers(self.options.processes, self.options.seed, self.folder, with_ants=False)


if __name__ == "__main__":
    main()
