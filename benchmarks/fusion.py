"""Label fusion of the hippocampus set on the same svf warps: every rule, `select`, ANTs, bad atlases, predictions.

Run from the project's root: python -m benchmarks.fusion --atlases 10 --cases 36
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from benchmarks import common
from benchmarks.fusion_evidence import Cohort, code_digest, register_atlases
from benchmarks.fusion_jobs import Workers
from benchmarks.fusion_planted import score_failures
from benchmarks.fusion_rules import DATA_PARAMETERS, RulesJob, beside_ants, facts_on_atlas, fuse_case
from benchmarks.fusion_scores import Score, curve, table
from benchmarks.fusion_trust import Parameters, TrainingJob, Trusted, TrustJob, learn, score_trust
from benchmarks.fusion_verdicts import FEW, verdicts
from benchmarks.measure import say
from covoxel.fusion.choice import Selector
from covoxel.io import write_table

PARTS = ("rules", "ants", "planted", "trust", "prediction", "counts")
COUNTS = (1, 2, 3, 5, 7)
NOTES = (
    "Dice: mean over anterior and posterior of each case; mean, p5 and minimum over the cases; low, high: bootstrap",
    "  interval of the mean, 95 %, cases drawn again. All rules and ANTs are given the same images, warped by svf.",
    "predicted: mean of the Dice predicted without the truth, for the rule selected; `select` and its predictions were",
    "  fitted on the atlases alone, each labelled from the others among the first so many.",
    "consensus: mean of the probabilities of locally_weighted and joint_label_fusion, a candidate of select beside the",
    "  two and the vote. select's seconds are those of all its candidates and of choosing.",
    "cpu_s, wall_s: of the fusion of one case in one thread, images in memory; in part `ants` both are timed one after",
    "  the other. ANTs is given discrete label maps (each atlas' likeliest label), as its API wants, rad 2,",
    "  max_lab_plus_one, and the atlases' structures grown by one voxel as its mask; the rest are its defaults.",
    f"{DATA_PARAMETERS}: learnt with a network taught by --teacher, see there; seconds are without the training.",
    "3 bad: labels of three atlases, drawn at random for each case, were shifted by 5 voxels along an axis, mirrored,",
    "  or pasted from another case; their images stay right, so that likeness cannot tell. Parameters are learnt anew.",
    "failures: all atlases displaced by 4 to 8 voxels, all mirrored, all as they lie on another case, or seven of ten",
    "  displaced each its own way; images with their labels. Other draws than those a calibration plants by itself.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlases", type=int, default=10, help="the first so many atlases of split.json (default 10)")
    parser.add_argument("--cases", type=int, default=36, help="the first so many cases (default 36)")
    parser.add_argument("--role", choices=("test", "unlabelled"), default="test", help="which cases (default test)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default all)")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each (default 2)")
    parser.add_argument("--network", default="lraspp", help="that data parameters are learnt with (default lraspp)")
    parser.add_argument(
        "--teacher",
        default="joint_label_fusion",
        help="rule whose results teach that network; empty: all propagated labels alike (default joint_label_fusion)",
    )
    parser.add_argument(
        "--epochs", type=int, help="of its training, which learns no parameters in the first ones (default: its own)"
    )
    parser.add_argument("--cache", type=Path, help="folder where transforms are kept (default: none are)")
    options = common.arguments(parser, argv)
    parts = set(options.parts.split(","))
    if not parts <= set(PARTS):
        parser.error(f"--parts must be some of {','.join(PARTS)}, got {options.parts}")
    if "planted" in parts and options.atlases < 4:
        parser.error(f"--atlases must be 4 or more where three of them are bad, got {options.atlases}")
    common.describe_run(seed=options.seed, processes=options.processes, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options, parts, Path(folder))
        with Workers(options.processes, options.seed, Path(folder), with_ants="ants" in parts) as workers:
            run.everything(workers)
    finish(run, options)


def finish(run: "Run", options: argparse.Namespace) -> None:
    """Print and write what was found."""
    figures, bars = verdicts(run.scores, run.trusted, run.count, run.seed)
    if "counts" in run.parts:
        say("\nDice against number of atlases")
        say(curve(run.scores).to_string(index=False, float_format=lambda x: f"{x:.4f}", na_rep="n/a"))
    say("\nOther figures")
    for figure in figures:
        say(f"{figure.part:12s}{figure.value:10.4g}  {figure.figure}")
    common.finish(table(run.scores, run.seed), bars, options.output, NOTES)
    if options.output is not None:
        for name, rows in (("figures", figures), ("cases", run.scores), ("trust", run.trusted)):
            if rows:
                write_table(options.output.with_suffix(f".{name}.tsv"), pd.DataFrame([asdict(row) for row in rows]))


class Run:
    """One run of the benchmark: what is asked for, and the scores so far."""

    def __init__(self, options: argparse.Namespace, parts: set[str], folder: Path) -> None:
        self.options, self.parts, self.count, self.seed = options, parts, options.atlases, options.seed
        source = common.data_folder("hippocampus")
        split = json.loads((source / "split.json").read_text(encoding="utf-8"))
        atlases, cases = split["atlases"][: self.count], split[options.role][: options.cases]
        transforms = (options.cache or folder) / f"svf-{code_digest()}"
        self.cohort = Cohort(source, transforms, tuple(atlases), tuple(cases))
        self.scores: list[Score] = []
        self.trusted: list[Trusted] = []
        say(f"{self.count} atlases x {len(cases)} {options.role} cases: {', '.join(sorted(parts))}")

    def everything(self, workers: Workers) -> None:
        """All parts, what others need first."""
        cohort, count, seed = self.cohort, self.count, self.seed
        targets = dict.fromkeys((*cohort.cases, *cohort.atlases))
        workers.all("svf of all atlases onto each", register_atlases, [(cohort, case) for case in targets])
        selectors, learnt = self._selectors(workers), self._learnt(workers)
        if selectors:
            rules = [RulesJob(cohort, case, selectors, learnt[0].get(case, {})) for case in cohort.cases]
            self._add(workers.all("rules", fuse_case, rules))
        if "ants" in self.parts:
            ants = [(cohort, case, count, seed) for case in cohort.cases]
            self._add(workers.all("joint label fusion, ours and ANTs'", beside_ants, ants))
        if self.parts & {"planted", "trust"}:
            clean, planted = learnt
            jobs = [TrustJob(cohort, case, count, clean[case], planted[case], seed) for case in cohort.cases]
            found = workers.all("trust in atlases", score_trust, jobs)
            self._add([scores for scores, _ in found])
            self.trusted = [one for _, trusted in found for one in trusted]
        if "prediction" in self.parts:
            failures = [(cohort, case, count, selectors[count], seed) for case in cohort.cases]
            self._add(workers.all("planted failures", score_failures, failures))

    def _add(self, found: Sequence[Sequence[Score]]) -> None:
        self.scores += [score for scores in found for score in scores]

    def _selectors(self, workers: Workers) -> dict[int, Selector]:
        """What leave-one-out of the first so many atlases teaches, by the number that is asked for."""
        wanted = {"rules": {self.count, FEW}, "prediction": {self.count}, "counts": {self.count, *COUNTS}}
        counts = sorted({n for part in self.parts for n in wanted.get(part, ()) if n <= self.count})
        jobs = [
            (self.cohort, atlas, count, self.seed + index)
            for count in reversed(counts)
            for index, atlas in enumerate(self.cohort.atlases[:count])
        ]
        facts = workers.all("leave-one-out of the atlases", facts_on_atlas, jobs) if jobs else []
        return {
            count: Selector.fit([fact for job, own in zip(jobs, facts, strict=True) if job[2] == count for fact in own])
            for count in counts
        }

    def _learnt(self, workers: Workers) -> tuple[Parameters, Parameters]:
        """Data parameters learnt without bad atlases, and with them."""
        bad = [False, True] if self.parts & {"trust", "planted"} else [False] if "rules" in self.parts else []
        how = (self.options.network, self.options.teacher, self.options.epochs, self.seed)
        jobs = [TrainingJob(self.cohort, self.count, planted, *how) for planted in bad]
        found = workers.all("training of data parameters", learn, jobs) if jobs else [{}]
        return found[0], found[-1]


if __name__ == "__main__":
    main()
