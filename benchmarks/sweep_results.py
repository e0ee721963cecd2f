"""Results of a sweep, put together from what svf carried, what was trained, and what both are worth on the cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.fusion_evidence import Cohort
from benchmarks.fusion_jobs import Workers
from benchmarks.measure import say
from benchmarks.sweep_carried import RULES, Carried, CarriedJob, minutes_of, score_carried, scores_key
from benchmarks.sweep_inference import ask_all
from benchmarks.sweep_plan import REGISTRATION, Draw
from benchmarks.sweep_schedule import Finished
from benchmarks.sweep_scores import CaseScore, PairScore, keep, kept
from benchmarks.sweep_table import Result

_MAIN, _SECOND = RULES


@dataclass(frozen=True)
class Scoring:
    """How everything is scored.

    Parameters
    ----------
    cohort
        All atlases that occur, and the scored cases.
    unlabelled
        Cases that train without a label of their own.
    folder
        Where scores are kept.
    views
        How often a network sees an image that it segments alone.
    workers
        Who does it.
    """

    cohort: Cohort
    unlabelled: Sequence[str]
    folder: Path
    views: int
    workers: Workers

    def of_svf(self, draws: Sequence[Draw]) -> list[Result]:
        """Registration alone: a result a draw."""
        folder = self.folder / f"svf-{scores_key(self.cohort, draws)}"
        done = folder / "done"
        if not done.is_file():
            sets = tuple(draw.atlases for draw in draws)
            jobs = [CarriedJob(self.cohort, case, sets) for case in self.cohort.cases]
            _write(folder, draws, self.workers.all("svf, fused from each draw", score_carried, jobs))
            done.touch()
        pairs = kept(folder / "pairs.tsv", PairScore)
        return [self._of_draw(draw, folder, pairs) for draw in draws]

    def _of_draw(self, draw: Draw, folder: Path, pairs: Sequence[PairScore]) -> Result:
        found = {rule: kept(_file(folder, draw, rule), CaseScore) for rule in RULES}
        return Result(REGISTRATION, draw, found[_MAIN], others={_SECOND: found[_SECOND]}, pairs=_of(pairs, draw))

    def of_trainings(self, finished: Sequence[Finished]) -> list[Result]:
        """Methods that were trained; one whose networks fail on a case is said and left out."""
        found = []
        for one in finished:
            try:
                found.append(self._of_training(one))
            except (ValueError, RuntimeError) as error:
                say(f"{one.training.folder.name}: FAILED, {error}")
        return found

    def _of_training(self, finished: Finished) -> Result:
        training, draw, shared = finished.training, finished.draw, finished.shared
        cohort = replace(self.cohort, atlases=draw.atlases)
        answers = ask_all(training, cohort, self.views, self.folder, self.workers)
        minutes = float(training.facts["minutes"])
        if shared is not None:
            minutes += float(shared.facts["minutes"])
        if training.job.fused is not None:
            minutes += minutes_of(training.job.fused, self.unlabelled)
        unsupervised: tuple[PairScore, ...] = ()
        if shared is not None:
            unsupervised = ask_all(shared, self.cohort, self.views, self.folder, self.workers).pairs
        return Result(
            training.job.method,
            draw,
            answers.label_maps[""],
            minutes,
            training.facts["steps"],
            {name: scores for name, scores in answers.label_maps.items() if name},
            answers.pairs,
            _of(unsupervised, draw),
            training.facts.get("stitches", {}),
        )


def _write(folder: Path, draws: Sequence[Draw], found: Sequence[Carried]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, draw in enumerate(draws):
        for rule in RULES:
            keep(_file(folder, draw, rule), [carried.fused[place][rule] for carried in found])
    keep(folder / "pairs.tsv", [pair for carried in found for pair in carried.pairs])


def _file(folder: Path, draw: Draw, rule: str) -> Path:
    return folder / f"{draw.name}-{rule}.tsv"


def _of(pairs: Sequence[PairScore], draw: Draw) -> tuple[PairScore, ...]:
    """The pairs with the atlases of a draw."""
    return tuple(pair for pair in pairs if pair.atlas in draw.atlases)
