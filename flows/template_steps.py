"""The steps of a template in a flow: cases placed in parallel, then averaged, until it changes no more."""

from flows.mapping import run_stage
from tasks.atlas import steps_of
from tasks.atlas_steps import Group
from tasks.study import Study


def run_steps_of(study: Study, group: Group) -> None:
    """Run the stages in which the template of a group is made; what is done is not done again."""
    for stage, task, jobs in steps_of(study, group):
        run_stage(study, stage, [(task, jobs(study))])
