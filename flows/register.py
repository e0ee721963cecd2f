"""Flow `register`: the transforms that bring every atlas onto every case."""

from flows.mapping import run_stage
from flows.preprocess import preprocess
from flows.study_flow import parameters, study_flow
from flows.template_steps import run_steps_of
from tasks.choose import choose, choose_jobs
from tasks.library import group_of_atlases, library_stages
from tasks.register import register as register_case
from tasks.register import register_jobs
from tasks.route import require_routes, route, route_jobs
from tasks.study import Study
from tasks.summary import Summary, summary_of
from tasks.template import template, template_jobs


@study_flow("register")
def register(study: Study) -> Summary:
    """Bring every atlas onto every case of a cohort, and keep the transforms."""
    if not study.ran("preprocess"):
        preprocess(**parameters(study))
    run_stage(study, "template", [(template, template_jobs(study))])
    run_stage(study, "choose", [(choose, choose_jobs(study))])
    if study.through_template:
        run_steps_of(study, group_of_atlases(study))
        for stage, task, jobs in library_stages(study):
            run_stage(study, stage, [(task, jobs(study))])
    run_stage(study, "register", [(register_case, register_jobs(study)), (route, route_jobs(study))])
    require_routes(study)
    return summary_of(study)
