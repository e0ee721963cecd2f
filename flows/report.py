"""Flow `report`: scores, tables, figures and the page for people."""

from flows.fuse_labels import fuse_labels
from flows.mapping import run_stage
from flows.page import publish_lines, publish_table
from flows.segment import segment
from flows.study_flow import parameters, study_flow
from tasks.evaluate import evaluate, evaluate_jobs
from tasks.figures import figures, figures_jobs
from tasks.report import write_report
from tasks.study import Study
from tasks.summary import Summary, page_rows, summary_of


@study_flow("report")
def report(study: Study) -> Summary:
    """Score what has true labels, write the tables and the report."""
    if not study.ran("fuse"):
        fuse_labels(**parameters(study))
    if study.segments and not study.ran("decide"):
        segment(**parameters(study))
    run_stage(study, "evaluate", [(evaluate, evaluate_jobs(study))])
    run_stage(study, "figures", [(figures, figures_jobs(study))])
    write_report(study)
    summary = summary_of(study)
    publish_table("cases", page_rows(study), "What became of each case")
    publish_lines("summary", summary.lines, "How the run ended")
    return summary
