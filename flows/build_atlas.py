"""Flow `build-atlas`: an unbiased template of the cases, its label probabilities, and the transforms to it and back."""

from flows.mapping import run_stage
from flows.page import publish_lines
from flows.preprocess import preprocess
from flows.study_flow import parameters, study_flow
from flows.template_steps import run_steps_of
from tasks.atlas import CARRY, STAGE, atlas, atlas_jobs, carry, carry_jobs, group_of, require_template
from tasks.conditional import conditional_stages, finish_atlas, require_conditional
from tasks.study import Study
from tasks.summary import Summary


@study_flow("build-atlas", needs_atlases=False, builds_atlas=True)
def build_atlas(study: Study) -> Summary:
    """Build an unbiased template of the cases of a cohort, iteration by iteration, a job a case.

    Where covariates are named, it becomes a function of them.
    """
    if not study.ran("preprocess"):
        preprocess(**parameters(study))
    run_steps_of(study, group_of(study))
    run_stage(study, STAGE, [(atlas, atlas_jobs(study))])
    require_template(study)
    for stage, task, jobs in conditional_stages(study):
        run_stage(study, stage, [(task, jobs(study))])
    run_stage(study, CARRY, [(carry, carry_jobs(study))])
    require_conditional(study)
    summary = finish_atlas(study)
    publish_lines("summary", summary.lines, "How the template came out")
    return summary
