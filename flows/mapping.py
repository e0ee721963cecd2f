"""Mapping a task over the cases of a stage: what is done is not submitted, what fails stops nothing else."""

import logging
import queue
import threading
from collections.abc import Sequence
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from flows.progress import stage_progress
from tasks.job import COHORT, Job, sentence
from tasks.study import Study

log = logging.getLogger(__name__)


def run_stage(study: Study, stage: str, work: Sequence[tuple[Task[..., Any], Sequence[Job]]]) -> None:
    """Run the jobs of a stage that are not done, a limited number at a time, and note how each case ended.

    Parameters
    ----------
    study
        Learns the records and the failures of the stage.
    stage
        Name of the stage.
    work
        Tasks, and the jobs for each. Without any job the stage has run and left nothing.
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
    study.computed[stage] = len(todo)
    if not records and not todo:
        return
    with stage_progress(stage, total=len(records) + len(todo), reused=len(records)) as advance:
        for job, future in _completed(todo, study.workers):
            result = future.result(raise_on_failure=False)
            if isinstance(result, BaseException):
                _note(study, job, result)
            else:
                records[job.case] = result
            advance(job.case)


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
        future: Any = task.submit(quote(job))

        def at_end(future: PrefectFuture[Any], job: Job = job) -> None:
            ended.put((job, future))
            slots.release()

        future.add_done_callback(at_end)
        running += 1
    for _ in range(running):
        yield ended.get()


def _note(study: Study, job: Job, error: BaseException) -> None:
    reason = sentence(error, job)
    who = "all cases" if job.case == COHORT else job.case
    log.warning("%s of %s failed: %s", job.stage, who, reason)
    for case in [case.id for case in study.fixed] if job.case == COHORT else [job.case]:
        if job.vital:
            study.failed[case] = reason
        else:
            study.flag(case, f"{job.stage}: {reason}")
