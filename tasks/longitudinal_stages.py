"""Stages of longitudinal, in their order: shared by the flow and by a rerun in which nothing is to be done."""

from collections.abc import Callable, Sequence
from typing import Any

from prefect import Task

from tasks import follow, label_template, visit, within
from tasks.check import check, check_jobs, set_aside
from tasks.job import Job
from tasks.longitudinal import check_longitudinal, longitudinal_summary, write_longitudinal
from tasks.preprocess import preprocess, preprocess_jobs, require_atlas
from tasks.study import Study
from tasks.subjects import spread_failures, subjects_of
from tasks.summary import Summary
from tasks.visit_network import check_network_labels


def _atlas_jobs(study: Study) -> list[Job]:
    """Labels of the atlases; all images are prepared as visits, the atlases too."""
    atlases = {atlas.id for atlas in study.atlases}
    return [job for job in preprocess_jobs(study) if job.case in atlases]


STAGES: tuple[tuple[str, Task[..., Any], Callable[[Study], Sequence[Job]]], ...] = (
    ("check", check, check_jobs),
    ("preprocess", preprocess, _atlas_jobs),
    ("visit", visit.visit, visit.visit_jobs),
    (within.STAGE, within.within, within.within_jobs),
    (label_template.STAGE, label_template.label_template, label_template.label_template_jobs),
    (follow.STAGE, follow.follow, follow.follow_jobs),
)


def waiting(study: Study, job: Job) -> list[str]:
    """Cases that have to wait for a job: its own, the visits of its subject, or all where it is about an atlas."""
    is_atlas = job.stage in ("preprocess", "visit") and any(atlas.id == job.case for atlas in study.atlases)
    if is_atlas:
        return [*(case.id for case in study.fixed), *((job.case,) if job.stage == "visit" else ())]
    of_subject = {subject.key: list(subject.ids) for subject in subjects_of(study)}
    return [job.case] if job.stage in ("check", "visit") else of_subject.get(job.case, [])


def after_stage(study: Study, stage: str) -> None:
    """What follows from how a stage ended.

    Raises
    ------
    CallError
        If no atlas is fit for use.
    NothingDoneError
        If no atlas could be prepared.
    SettingsError
        If a network that is to have a say knows other labels than the atlases.
    """
    if stage == "check":
        set_aside(study)
        check_network_labels(study)
    elif stage in ("preprocess", "visit"):
        require_atlas(study)
    else:
        spread_failures(study, stage)


def finish_longitudinal(study: Study) -> Summary | None:
    """Summary after the tables and the page are written anew; None, and nothing written, if there is work to do."""
    known = check_longitudinal(study)
    for stage, _, jobs_of in STAGES:
        records = study.records.setdefault(stage, {})
        for job in jobs_of(study):
            record = job.done()
            if record is None:
                return None
            records[job.case] = record
        after_stage(study, stage)
    write_longitudinal.fn(study, known)
    return longitudinal_summary(study)
