"""Flow `train-joint`: networks that register and segment, trained on the cohort by a recipe, each by the other."""

from flows.fuse_labels import fuse_labels
from flows.mapping import run_stage, run_steps
from flows.page import publish_lines
from flows.preprocess import preprocess
from flows.study_flow import parameters, study_flow
from tasks.align import align, align_jobs
from tasks.study import Study
from tasks.summary import Summary, summary_of
from tasks.train_joint import STAGE, train, train_jobs
from tasks.trainings import require_model


@study_flow("train-joint", needs_atlases=False, trains="joint")
def train_joint(study: Study) -> Summary:
    """Train networks that register and segment on a cohort by a joint recipe, and keep them in the folder models."""
    if not study.ran("preprocess"):
        preprocess(**parameters(study))
    if study.teaches_fused and not study.ran("fuse"):
        fuse_labels(**parameters(study))
    run_stage(study, "align", [(align, align_jobs(study))])
    run_steps(study, STAGE, train, train_jobs)
    if not study.is_training:
        return summary_of(study)
    require_model(study, STAGE)
    summary = summary_of(study)
    publish_lines("summary", summary.lines, "How the training ended")
    return summary
