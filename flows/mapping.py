"""Mapping a task over the cases of a stage: what is done is not submitted, what fails stops nothing else."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from flows import interrupt
from flows.page import remember_run
from flows.progress import stage_progress, step_progress
from tasks.job import Job, sentence
from tasks.study import Study

log = logging.getLogger(__name__)


Shown = Callable[[str, int, int], AbstractContextManager[Callable[[str], None]]]


def run_stage(
    study: Study, stage: str, work: Sequence[tuple[Task[..., Any], Sequence[Job]]], shown: Shown = stage_progress
) -> None:
    """Run the jobs of a stage that are not done, a limited number at a time, and note how each case ended.

    Parameters
    ----------
    study
        Learns the records and the failures of the stage.
    stage
        Name of the stage.
    work
        Tasks, and the jobs for each. Without any job the stage has run and left nothing.
    shown
        Shows how far the stage is, case by case.
    """
    records = study.records.setdefault(stage, {})
    todo: list[tuple[Task[..., Any], Job]] = []
    for task, jobs in work:
        for job in jobs:
            record = job.done()
            if record is None:
                todo.append((task, job))
            else:
                records[job.case] = record
    study.computed[stage] = study.computed.get(stage, 0) + len(todo)  # a stage may come in parts: folds of a training
    if not records and not todo:
        return
    remember_run()
    with shown(stage, len(records) + len(todo), len(records)) as advance:
        for job, future in _completed(todo, study.workers):
            result = future.result(raise_on_failure=False)
            if isinstance(result, BaseException):
                _note(study, job, result)
            else:
                records[job.case] = result
            advance(job.case)


def run_steps(study: Study, stage: str, task: Task[..., Any], jobs: Callable[..., Sequence[Job]]) -> None:
    """Run a stage of one long job that counts its own steps; `jobs` is given the study, and whom to tell of each.

    When this run is interrupted the job ends with its step, and not an hour later with its work.
    """
    interrupted = threading.Event()
    with step_progress(stage) as show:

        def tell(done: int, total: int, loss: float) -> None:
            if interrupted.is_set() or interrupt.stopping.is_set():
                raise InterruptedError("the run was interrupted")
            show(done, total, loss)

        try:
            run_stage(study, stage, [(task, jobs(study, tell))], shown=_unseen)
        except BaseException:
            interrupted.set()
            raise


@contextmanager
def _unseen(stage: str, total: int, reused: int) -> Iterator[Callable[[str], None]]:
    yield lambda case: None


def _completed(todo: Sequence[tuple[Task[..., Any], Job]], workers: int) -> Any:
    """Submit jobs, `workers` at a time, and yield each with its future as it ends."""
    slots = threading.Semaphore(workers)
    ended: queue.SimpleQueue[tuple[Job, PrefectFuture[Any]]] = queue.SimpleQueue()
    running = 0
    for task, job in todo:
        while not slots.acquire(timeout=0.05):
            while not ended.empty():
                running -= 1
                yield ended.get()
        if getattr(job, "tell", None) is not None:
            interrupt.saving.add(id(job))
        future: Any = task.submit(quote(job))

        def at_end(future: PrefectFuture[Any], job: Job = job) -> None:
            interrupt.saving.discard(id(job))
            ended.put((job, future))
            slots.release()

        future.add_done_callback(at_end)
        running += 1
    for _ in range(running):
        yield ended.get()


def _note(study: Study, job: Job, error: BaseException) -> None:
    reason = sentence(error, job)
    who = "all cases" if job.of_all else job.case
    log.warning("%s of %s failed: %s", job.stage, who, reason)
    if job.of_all:
        study.trouble[job.stage] = reason
    for case in [case.id for case in study.fixed] if job.of_all else [job.case]:
        if job.vital:
            study.failed[case] = reason
        else:
            study.flag(case, f"{job.stage}: {reason}")
