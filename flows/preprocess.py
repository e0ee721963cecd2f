"""Flow `preprocess`: check every image, and prepare the sound ones."""

import logging

from flows.mapping import run_stage
from flows.study_flow import study_flow
from tasks.check import check, check_jobs, count_of, set_aside
from tasks.preprocess import preprocess as preprocess_case
from tasks.preprocess import preprocess_jobs, require_atlas
from tasks.study import Study
from tasks.summary import Summary, summary_of

log = logging.getLogger(__name__)


@study_flow("preprocess", needs_atlases=False)
def preprocess(study: Study) -> Summary:
    """Check every image of a cohort and prepare the sound ones; the others are set aside with a reason."""
    run_stage(study, "check", [(check, check_jobs(study))])
    set_aside(study)
    log.info("check: %s", count_of(study))
    run_stage(study, "preprocess", [(preprocess_case, preprocess_jobs(study))])
    require_atlas(study)
    return summary_of(study)
