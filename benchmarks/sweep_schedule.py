"""All trainings of a sweep: which wait for which, how many at once, and how each is stretched to its budget."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.league_process import PartFailed
from benchmarks.measure import say
from benchmarks.sweep_budget import scale_of, seconds_of
from benchmarks.sweep_ground import registration_folder
from benchmarks.sweep_job import UNSUPERVISED, SweepJob, recipe_of
from benchmarks.sweep_plan import DEEPATLAS, DEEPATLAS_FUSED, METHODS, REGISTRATION, Draw
from benchmarks.sweep_recipes import load, phases_of, recipe_name, two_networks, unsupervised
from benchmarks.sweep_training import Training, do
from covoxel.io import sha256_json

JOINT = (DEEPATLAS, DEEPATLAS_FUSED)
"""Methods that begin with the registration network that no label has taught."""


@dataclass(frozen=True)
class Budget:
    """What a training may take: minutes of computing, or so many times its recipe's steps."""

    minutes: float | None
    scale: float | None


@dataclass(frozen=True)
class Finished:
    """A training of a draw, and that of the registration network that it began with."""

    draw: Draw
    training: Training
    shared: Training | None = None


class Schedule:
    """Trainings in several processes at once, what others wait for first.

    Parameters
    ----------
    common
        A job with what all of them share; its method, atlases, scale and folders are replaced.
    work
        Where models and budgets are kept.
    budget
        Of a training.
    recipes
        Names or files of recipes that the call gave, by method.
    fused
        Folders of fused label maps, by name of the draw.
    """

    def __init__(
        self, common: SweepJob, work: Path, budget: Budget, recipes: Mapping[str, str], fused: Mapping[str, Path]
    ) -> None:
        self.common, self.work, self.budget, self.recipes, self.fused = common, work, budget, recipes, fused
        self._seconds: dict[tuple[str, int], Future[dict[str, float]]] = {}
        self._shared: dict[str, Future[Training]] = {}

    def run(self, draws: Sequence[Draw], methods: Sequence[str], processes: int) -> list[Finished]:
        """Train everything that is not done yet; what fails is said and left out."""
        wanted = [method for method in METHODS if method in methods and method != REGISTRATION]
        with ThreadPoolExecutor(processes) as pool:
            # Each waits only for those before it, so that the pool cannot lock itself up.
            if self.budget.minutes is not None:
                self._try_all(draws, wanted, pool)
            self._share_all(draws, wanted, pool)
            futures = [pool.submit(self._one, method, draw) for draw in draws for method in wanted]
            return [finished for future in futures if (finished := future.result()) is not None]

    def _try_all(self, draws: Sequence[Draw], methods: Sequence[str], pool: ThreadPoolExecutor) -> None:
        """Trial steps of each method and number of labels, with the first draw, and of what is shared."""
        for draw in draws:
            for method in methods:
                if (method, draw.labels) not in self._seconds:
                    self._seconds[method, draw.labels] = pool.submit(seconds_of, self._job(method, draw), self.work)
        for method in methods:
            if method in JOINT and (self._shared_key(method), 0) not in self._seconds:
                job = self._unsupervised(method)
                self._seconds[self._shared_key(method), 0] = pool.submit(seconds_of, job, self.work)

    def _share_all(self, draws: Sequence[Draw], methods: Sequence[str], pool: ThreadPoolExecutor) -> None:
        most = max(draw.labels for draw in draws)
        for method in methods:
            if method in JOINT and self._shared_key(method) not in self._shared:
                self._shared[self._shared_key(method)] = pool.submit(self._train_shared, method, most)

    def _shared_key(self, method: str) -> str:
        """What decides about the registration network; methods that have it in common share it."""
        return sha256_json(asdict(unsupervised(two_networks(load(recipe_name(method, self.recipes), 0)))))

    def _train_shared(self, method: str, most: int) -> Training:
        """The registration network that no label teaches; its part of a budget is that with most labels."""
        job = self._unsupervised(method)
        scale = self.budget.scale
        if scale is None:
            seconds = self._seconds[self._shared_key(method), 0].result() | self._seconds[method, most].result()
            phases = phases_of(recipe_of(job)) | phases_of(recipe_of(replace(job, method=method)))
            scale = scale_of(phases, seconds, self._budget_seconds)
        return do(replace(job, scale=scale), self.work)

    def _one(self, method: str, draw: Draw) -> Finished | None:
        """One method with the atlases of one draw."""
        try:
            shared = self._shared[self._shared_key(method)].result() if method in JOINT else None
            job = self._job(method, draw)
            start = None if shared is None else registration_folder(shared.folder)
            job = replace(job, scale=self._scale(job, draw, shared), start=start)
            return Finished(draw, do(job, self.work), shared)
        except PartFailed as error:
            say(f"{method}, {draw.labels} labels, draw {draw.number}: FAILED, {error}")
            return None

    def _scale(self, job: SweepJob, draw: Draw, shared: Training | None) -> float:
        if self.budget.scale is not None:
            return self.budget.scale
        spent = 0.0 if shared is None else 60 * float(shared.facts["minutes"])
        seconds = self._seconds[job.method, draw.labels].result()
        return scale_of(phases_of(recipe_of(job)), seconds, self._budget_seconds - spent)

    @property
    def _budget_seconds(self) -> float:
        assert self.budget.minutes is not None
        return 60 * self.budget.minutes

    def _job(self, method: str, draw: Draw) -> SweepJob:
        """A training with the steps of its recipe."""
        return replace(
            self.common,
            method=method,
            recipe=recipe_name(method, self.recipes),
            atlases=draw.atlases,
            seed=self.common.seed + draw.number,
            scale=1.0,
            fused=self.fused[draw.name] if method == DEEPATLAS_FUSED else None,
        )

    def _unsupervised(self, method: str) -> SweepJob:
        return replace(self.common, method=UNSUPERVISED, recipe=recipe_name(method, self.recipes), scale=1.0)
