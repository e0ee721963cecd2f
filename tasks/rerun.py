"""Rerun: which stages a verb is made of, and what of them is not done yet; by content, without starting anything."""

from collections.abc import Callable, Sequence

from tasks import longitudinal_stages, train_joint, train_registration
from tasks.align import align_jobs
from tasks.atlas import CARRY, STAGE, atlas_jobs, carry_jobs, group_of, steps_of
from tasks.calibrate import calibrate_jobs
from tasks.call import Call, CallError
from tasks.check import check_jobs, set_aside
from tasks.choose import choose_jobs
from tasks.cohort_atlases import STAGE as BY_COHORT
from tasks.cohort_atlases import asks_cohort, label_by_cohort_jobs
from tasks.conditional import conditional_stages, finish_atlas
from tasks.correct import correct_jobs
from tasks.decide import decide_jobs
from tasks.evaluate import evaluate_jobs
from tasks.figures import figures_jobs
from tasks.fuse import fuse_jobs, keep_jobs
from tasks.job import Job
from tasks.judge import judge_jobs
from tasks.learn import learn_jobs
from tasks.library import group_of_atlases, library_stages
from tasks.nnunet_stages import nnunet_stages
from tasks.preprocess import preprocess_jobs
from tasks.register import register_jobs
from tasks.report import write_report
from tasks.route import route_jobs
from tasks.segment import segment_jobs
from tasks.study import Study, read_study
from tasks.summary import Summary, summary_of
from tasks.template import template_jobs

NOTHING = "nothing"
NOT_YET = "not done yet"

Stages = list[tuple[str, Callable[[Study], Sequence[Job]]]]

_PREPARED: Stages = [("check", check_jobs), ("preprocess", preprocess_jobs)]
_FUSED: Stages = [
    ("template", template_jobs),
    ("choose", choose_jobs),
    ("register", lambda study: [*register_jobs(study), *route_jobs(study)]),
    ("learn", learn_jobs),
    ("calibrate", calibrate_jobs),
    ("correct", correct_jobs),
    ("fuse", lambda study: [*fuse_jobs(study), *keep_jobs(study)]),
]
_SEGMENTED: Stages = [
    ("segment", segment_jobs),
    (BY_COHORT, label_by_cohort_jobs),
    ("judge", judge_jobs),
    ("decide", decide_jobs),
]
_REPORTED: Stages = [("evaluate", evaluate_jobs), ("figures", figures_jobs)]
_LAST_STAGE = {
    "preprocess": "preprocess",
    "register": "register",
    "build-atlas": CARRY,
    "fuse-labels": "fuse",
    "segment": "decide",
    "train-registration": train_registration.STAGE,
    "train-joint": train_joint.STAGE,
}


def finish_if_done(study: Study, verb: str) -> Summary | None:
    """Summary of a run in which there is nothing to compute, after its tables and report are written anew.

    Parameters
    ----------
    study
        The open study of the call; it is not changed.
    verb
        What is asked for: "few-shot", "preprocess" ….

    Returns
    -------
    Summary or None
        None, as soon as it is seen, if something is to be computed; nothing was written then.

    Raises
    ------
    CallError
        If no atlas is fit for use.
    """
    done = Study(study.call, study.cohort)
    last = _LAST_STAGE.get(verb, "figures")
    for stage, jobs_of in _stages(done):
        records = done.records.setdefault(stage, {})
        for job in jobs_of(done):
            record = job.done()
            if record is None:
                return None
            records[job.case] = record
        if stage == "check":
            set_aside(done)
        if stage == last:
            break
    if verb not in _LAST_STAGE:
        write_report.fn(done)
    if done.call.builds_atlas:
        return finish_atlas(done)
    return summary_of(done)


def plan(call: Call) -> dict[str, str]:
    """What a rerun of a call would do, by case: "nothing", or the first stage to be done and those after it.

    Raises
    ------
    CallError
        If the call is not possible any more.
    """
    study = read_study(call)
    reruns = dict.fromkeys((case.id for case in study.selected), NOTHING)
    reruns |= dict.fromkeys((rejected.id for rejected in study.cohort.rejected), NOTHING)
    stages = [stage for stage in _stages(study) if stage not in _REPORTED]
    later = [name for name, _ in stages if name not in _idle(study)]
    for stage, jobs_of in stages:
        later = later[1:] if later[:1] == [stage] else later
        records = study.records.setdefault(stage, {})
        for job in jobs_of(study):
            record = job.done()
            if record is None:
                for case in _waiting(study, job):
                    if reruns.get(case) == NOTHING:
                        reruns[case] = " ".join([stage, *later])
                    study.failed[case] = NOT_YET
            else:
                records[job.case] = record
        if stage == "check":
            _set_aside(study)
    return reruns


def _stages(study: Study) -> Stages:
    """Stages of a run in their order; of one without atlases, those that need none."""
    if study.call.follows:
        return [(stage, jobs_of) for stage, _, jobs_of in longitudinal_stages.STAGES]
    if study.call.builds_atlas:
        steps = [(name, jobs) for name, _, jobs in steps_of(study, group_of(study))]
        more = [(name, jobs) for name, _, jobs in conditional_stages(study)]
        return [*_PREPARED, *steps, (STAGE, atlas_jobs), *more, (CARRY, carry_jobs)]
    fuses = study.registers and bool(study.call.atlases)
    stages = [*_PREPARED, *(_fused(study) if fuses else [])]
    if study.recipe is not None:
        stages += [("align", align_jobs), (train_registration.STAGE, train_registration.train_jobs)]
    if study.joint_recipe is not None:
        stages += [("align", align_jobs), (train_joint.STAGE, train_joint.train_jobs)]
    if study.segments and not study.is_training:
        stages += [*nnunet_stages(study), *_SEGMENTED]
    return stages if study.is_training else [*stages, *_REPORTED]


def _fused(study: Study) -> Stages:
    """Stages up to fusion, with those of the template through which atlases may come."""
    if not study.through_template:
        return _FUSED
    at = [name for name, _ in _FUSED].index("register")
    steps = [(name, jobs) for name, _, jobs in (*steps_of(study, group_of_atlases(study)), *library_stages(study))]
    return [*_FUSED[:at], *steps, *_FUSED[at:]]


def _idle(study: Study) -> set[str]:
    """Stages that a change of one case does not bring about: those of the atlases, and those not asked for."""
    atlases = study.call.settings.atlases
    chooses = atlases.count is not None and atlases.by != "weight"
    aligns = study.alignment == "affine"
    asked_for = {"choose": chooses, "learn": study.learns, "align": aligns, BY_COHORT: asks_cohort(study)}
    steps = {name for name, _, _ in (*steps_of(study, group_of_atlases(study)), *library_stages(study))}
    return {
        *steps,
        "template",
        "calibrate",
        "correct",
        "judge",
        *(stage for stage, asked in asked_for.items() if not asked),
    }


def _waiting(study: Study, job: Job) -> list[str]:
    """Cases that have to wait for a job: its own, or all where it is about the atlases or the whole cohort."""
    if study.call.follows:
        return longitudinal_stages.waiting(study, job)
    fixed = [case.id for case in study.fixed]
    if not job.of_all and (job.vital or job.case in fixed):
        return [job.case]
    return [case.id for case in study.named] if study.is_training else fixed


def _set_aside(study: Study) -> None:
    try:
        set_aside(study)
    except CallError:
        if not any(case.id in study.failed for case in study.cohort.atlases):
            raise
