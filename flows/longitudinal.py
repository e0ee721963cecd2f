"""Flow `longitudinal`: the visits of each subject on a template of its own, volumes, and how they change."""

import logging

from flows.mapping import run_stage
from flows.page import publish_lines, publish_table
from flows.study_flow import study_flow
from tasks.check import count_of
from tasks.longitudinal import check_longitudinal, longitudinal_summary, write_longitudinal
from tasks.longitudinal_stages import STAGES, after_stage
from tasks.study import Study
from tasks.summary import Summary, page_rows

log = logging.getLogger(__name__)


@study_flow("longitudinal", follows=True)
def longitudinal(study: Study) -> Summary:
    """Follow every subject of a cohort over all visits: volumes, rates of change, and what they are worth."""
    known = check_longitudinal(study)
    for stage, task, jobs in STAGES:
        run_stage(study, stage, [(task, jobs(study))])
        after_stage(study, stage)
        if stage == "check":
            log.info("check: %s", count_of(study))
    write_longitudinal(study, known)
    summary = longitudinal_summary(study)
    publish_table("cases", page_rows(study), "What became of each case")
    publish_lines("summary", summary.lines, "How the run ended")
    return summary
