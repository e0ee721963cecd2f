"""Flow `fuse-labels`: from registered atlases to one label map a case."""

from flows.mapping import run_stage, run_steps
from flows.register import register
from flows.study_flow import parameters, study_flow
from tasks.calibrate import calibrate, calibrate_jobs
from tasks.correct import STAGE, correct, correct_jobs
from tasks.fuse import fuse, fuse_jobs, keep, keep_jobs
from tasks.learn import learn, learn_jobs
from tasks.study import Study
from tasks.summary import Summary, summary_of


@study_flow("fuse-labels")
def fuse_labels(study: Study) -> Summary:
    """Fuse the labels of all atlases into one label map a case, with a confidence."""
    if not study.ran("register"):
        register(**parameters(study))
    run_stage(study, "learn", [(learn, learn_jobs(study))])
    run_stage(study, "calibrate", [(calibrate, calibrate_jobs(study))])
    if study.corrects:
        run_steps(study, STAGE, correct, correct_jobs)
    run_stage(study, "fuse", [(fuse, fuse_jobs(study)), (keep, keep_jobs(study))])
    return summary_of(study)
