"""Flow `segment`: trained networks segment every case too, and the best label map of each is kept."""

from typing import Any

from prefect import Task

from flows.fuse_labels import fuse_labels
from flows.mapping import run_stage, run_steps
from flows.study_flow import parameters, study_flow, training_parameters
from flows.train_joint import train_joint
from tasks import plan_nnunet, relabel, train_nnunet
from tasks.call import CallError
from tasks.cohort_atlases import STAGE as BY_COHORT
from tasks.cohort_atlases import label_by_cohort, label_by_cohort_jobs
from tasks.decide import decide, decide_jobs
from tasks.judge import judge, judge_jobs
from tasks.nnunet_stages import nnunet_stages
from tasks.segment import segment as segment_case
from tasks.segment import segment_jobs
from tasks.study import Study
from tasks.summary import Summary, summary_of


@study_flow("segment")
def segment(study: Study) -> Summary:
    """Segment every case by networks, and keep a network's label map, the fused one or a mean of them."""
    if not study.segments:
        raise CallError("segment.segmenter is fusion, so no network segments; name another one (--segmenter auto)")
    if not study.ran("fuse"):
        fuse_labels(**parameters(study))
    if study.joint_recipe is not None:
        train_joint(**training_parameters(study))
    _train_nnunet(study)
    run_stage(study, "segment", [(segment_case, segment_jobs(study))])
    run_stage(study, BY_COHORT, [(label_by_cohort, label_by_cohort_jobs(study))])
    run_stage(study, "judge", [(judge, judge_jobs(study))])
    run_stage(study, "decide", [(decide, decide_jobs(study))])
    return summary_of(study)


def _train_nnunet(study: Study) -> None:
    """Plan and train nnU-Net, if the run trains one."""
    tasks: dict[str, Task[..., Any]] = {plan_nnunet.STAGE: plan_nnunet.plan_nnunet, relabel.STAGE: relabel.relabel}
    for stage, jobs_of in nnunet_stages(study):
        if stage == train_nnunet.STAGE:
            run_steps(study, stage, train_nnunet.train_nnunet, jobs_of)
        else:
            run_stage(study, stage, [(tasks[stage], jobs_of(study))])
