"""Flow `train-registration`: a network that registers pairs of images, trained on the cohort by a recipe."""

from flows.mapping import run_stage, run_steps
from flows.page import publish_lines
from flows.preprocess import preprocess
from flows.study_flow import parameters, study_flow
from tasks.align import align, align_jobs
from tasks.study import Study
from tasks.summary import Summary, summary_of
from tasks.train_registration import STAGE, train, train_jobs
from tasks.trainings import require_model


@study_flow("train-registration", needs_atlases=False, trains="registration")
def train_registration(study: Study) -> Summary:
    """Train a registration network on a cohort by a recipe, and keep it in the folder models."""
    if not study.ran("preprocess"):
        preprocess(**parameters(study))
    run_stage(study, "align", [(align, align_jobs(study))])
    run_steps(study, STAGE, train, train_jobs)
    require_model(study, STAGE)
    summary = summary_of(study)
    publish_lines("summary", summary.lines, "How the training ended")
    return summary
