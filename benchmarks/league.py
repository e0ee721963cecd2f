"""The league of registration: every recipe trained on the hippocampus set under one budget, scored on the same pairs.

Run from the project's root: python -m benchmarks.league --minutes 30 --refine --output league.tsv
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.fusion_evidence import Cohort
from benchmarks.fusion_jobs import Workers
from benchmarks.league_brain import measure_brain
from benchmarks.league_methods import DRIVES, LEARNED, WITHOUT_NETWORK, Method, methods_of, through_template
from benchmarks.league_process import PartFailed
from benchmarks.league_propagation import propagate_all
from benchmarks.league_scores import score_all
from benchmarks.league_table import FUSED, Entry, by_case, markdown, row_of, verdicts
from benchmarks.league_template import LeagueTemplate, TemplateJob, template_of
from benchmarks.league_timing import TimingJob, time_methods
from benchmarks.league_training import TrainedRecipe, TrainingJob, recipe_of, train_all
from benchmarks.measure import say
from covoxel.io import write_text
from covoxel.training.registration import Recipe
from tasks.recipe_files import recipe_names

RULES = (FUSED, "joint_label_fusion")
NOTES = (
    "supervision: what taught network or template; none: there is none; images: no label at all; labels: those of the",
    "  atlases too; labels, propagated: and those of the unlabelled cases, predicted from the atlases by svf and",
    "  locally_weighted; warps: synthetic warps of the images, which are known.",
    "dice: of one atlas alone, all atlases x cases, mean over the structures; p5, minimum: over the pairs. low, high:",
    "  bootstrap interval of the mean, 95 %, cases drawn again with all their atlases. Background is never counted.",
    "labels: how they are warped; once, each label's indicator linearly, and the largest wins. hd95_mm likewise.",
    "folds_percent: determinant <= 0 by central differences; digital_percent: no digital diffeomorphism (all forward",
    "  and backward differences); ndv_percent: volume turned inside out. All voxels of the fixed grid, mean of pairs.",
    "locally_weighted, joint_label_fusion: Dice of the labels fused from the warps of all atlases, mean over cases.",
    "ms_1, ms_2: a pair in one and in two threads, a case with all its atlases at once; ms_single: a pair alone, two",
    "  threads; gpu_ms, gpu_ms_single: likewise on a GPU. From images in memory to transforms in memory; refined rows",
    "  include their network and, if driven by labels, predicting these.",
    "through a template: one of the atlases and unlabelled cases, no label; a case is registered to it once, and the",
    "  atlases come along by composition: ms_1 and ms_2 share that one registration, ms_single does not. minutes: with",
    "  those of the template.",
    "brain_s, brain_gib: one pair of 160 x 192 x 224 voxels, two threads, network alone, largest resident memory.",
    "parameters, steps, best_step, minutes: of the training; the weights of the best step on held-out pairs are kept.",
    "  Minutes are of one process, and with those of propagating labels, once for all, where these teach.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _arguments(argv)
    common.describe_run(seed=options.seed, processes=options.processes, threads=options.cpu_threads)
    with tempfile.TemporaryDirectory() as text:
        entries = League(options, Path(text)).entries()
    entries.sort(key=lambda entry: -by_case(entry).mean())
    rows = [row_of(entry, options.seed) for entry in entries]
    common.finish(rows, verdicts(entries, rows), options.output, NOTES)
    if options.output is not None:
        write_text(options.output.with_suffix(".md"), markdown(rows))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", help="names, with commas between (default all that fit the data)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of training a recipe, everything included (default 30)")
    budget.add_argument("--steps", type=int, help="of training a recipe, instead: the same weights on every run")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("output/league"),
        help="folder of models and scores; what is there is not done again (default output/league)",
    )
    parser.add_argument("--cases", choices=("test", "unlabelled"), default="test", help="scored ones (default test)")
    parser.add_argument("--limit", type=int, help="only the first so many cases")
    parser.add_argument("--atlases", type=int, default=10, help="the first so many of split.json (default 10)")
    parser.add_argument(
        "--no-propagate",
        dest="propagate",
        action="store_false",
        help="teach with the labels of the atlases alone, not with those that svf propagates to the unlabelled cases",
    )
    parser.add_argument("--processes", type=int, default=2, help="trainings and scorings at once (default 2)")
    parser.add_argument("--cpu-threads", type=int, default=1, help="of each of them (default 1)")
    parser.add_argument("--device", default="cpu", help="of the trainings: cpu or cuda (default cpu)")
    parser.add_argument(
        "--refine", nargs="*", choices=DRIVES, help="also networks and then svf, driven by these (default intensities)"
    )
    parser.add_argument("--fuse", help="names of recipes whose warps are fused too, with commas between, or all")
    parser.add_argument(
        "--template",
        type=int,
        default=50,
        help="also through a template of the atlases and the first so many unlabelled cases (default 50; 0: not)",
    )
    parser.add_argument("--timed", type=int, default=3, help="cases on which the clock runs (default 3; 0: none)")
    parser.add_argument("--no-brain", action="store_true", help="leave the pair of brains out")
    options = common.arguments(parser, argv)
    if options.refine == []:
        options.refine = ["intensities"]
    if options.minutes is None and options.steps is None:
        options.minutes = 30.0
    return options


class League:
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
        self.unlabelled = tuple(split["unlabelled"])
        atlases, cases = split["atlases"][: options.atlases], split[options.cases][: options.limit]
        self.cohort = Cohort(source, folder, tuple(atlases), tuple(cases))

    def entries(self) -> list[Entry]:
        """Train, score, measure."""
        trained = self._trained()
        say(f"{len(self.cohort.atlases)} atlases x {len(self.cohort.cases)} {self.options.cases} cases")
        drives = self.options.refine or ()
        taught = {t.recipe: t.supervision for t in trained}
        template = self._template()
        methods = [*WITHOUT_NETWORK, *(m for t in trained for m in methods_of(t.recipe, t.model, drives))]
        if template is not None:
            free = [m for m in methods if m.engine == LEARNED and drives and not taught[m.recipe].startswith("labels")]
            methods += through_template(template.folder, free)
        with Workers(self.options.processes, self.options.seed, self.folder, with_ants=False) as workers:
            scores = score_all(methods, self.cohort, self._rules(methods), self.work / "scores", workers)
        methods = [method for method in methods if method.name in scores]
        facts = self._facts(methods, {t.recipe: t for t in trained}, template)
        shown = {m.name: taught.get(m.recipe, "" if m.template is None else "images") for m in methods}
        return [Entry(m, scores[m.name], facts[m.name], shown[m.name]) for m in methods]

    def _template(self) -> LeagueTemplate | None:
        if not self.options.template:
            return None
        others = self.unlabelled[: self.options.template]
        return template_of(TemplateJob(self.cohort.source, self.cohort.atlases, others), self.work)

    def _trained(self) -> list[TrainedRecipe]:
        options, names = self.options, recipe_names()
        wanted = options.recipes.split(",") if options.recipes is not None else list(names)
        recipes = [recipe_of(name) for name in wanted if name]
        propagated = self._propagated(recipes)
        jobs = [
            TrainingJob(
                recipe.name,
                self.cohort.source,
                self.cohort.atlases,
                self.unlabelled,
                options.minutes,
                options.steps,
                options.seed,
                options.cpu_threads,
                options.device,
                propagated if recipe.supervision == "labels" else None,
            )
            for recipe in recipes
            if recipe.pairs == "inter"
        ]
        for recipe in recipes:
            if recipe.pairs != "inter":
                say(f"{recipe.name}: left out, no subject of these data was imaged twice")
        return train_all(jobs, self.work, options.processes)

    def _propagated(self, recipes: Sequence[Recipe]) -> Path | None:
        """Folder of label maps of the unlabelled cases, if a recipe learns from labels and these are wanted."""
        if not self.options.propagate or not any(recipe.supervision == "labels" for recipe in recipes):
            return None
        cohort = replace(self.cohort, cases=self.unlabelled)
        with Workers(self.options.processes, self.options.seed, self.folder, with_ants=False) as workers:
            return propagate_all(cohort, self.work, workers)

    def _rules(self, methods: Sequence[Method]) -> dict[str, tuple[str, ...]]:
        chosen = (self.options.fuse or "").split(",")
        fused = [
            m for m in methods if chosen != [""] and (m.recipe in chosen or chosen == ["all"] or m.engine == "svf")
        ]
        return {method.name: RULES for method in fused}

    def _facts(
        self, methods: Sequence[Method], trained: dict[str, TrainedRecipe], template: LeagueTemplate | None
    ) -> dict[str, dict[str, Any]]:
        facts: dict[str, dict[str, Any]] = {method.name: {} for method in methods}
        if self.options.timed:
            say("seconds a pair, one process")
            job = TimingJob(tuple(methods), self.cohort, self.cohort.cases[: self.options.timed])
            for name, columns in time_methods(job, self.folder).items():
                facts[name] |= dict.fromkeys(("gpu_ms", "gpu_ms_single"), float("nan")) | columns
        for method in methods:
            if method.recipe:
                facts[method.name] |= trained[method.recipe].facts
            if template is not None and method.template == template.folder:
                facts[method.name]["minutes"] = facts[method.name].get("minutes", 0.0) + template.minutes
            if method.engine == LEARNED and not self.options.no_brain:
                facts[method.name] |= self._brain(method)
        return facts

    def _brain(self, method: Method) -> dict[str, float]:
        assert method.model is not None
        try:
            found = measure_brain(method.model, self.folder)
        except PartFailed as error:
            say(f"{method.name}: a pair of brains FAILED, {error}")
            return {}
        say(f"{method.name}: a pair of brains in {found['brain_s']:.1f} s, {found['brain_gib']:.1f} GiB")
        return found


if __name__ == "__main__":
    main()
