"""Make the synthetic cohort of the demo."""

from dataclasses import dataclass
from pathlib import Path

from prefect import task

from data_catalog import make_synthetic_cohort, open_cohort
from tasks.demo import ATLASES, TRUTH, demo_folder
from tasks.options import TASK_OPTIONS


@dataclass(frozen=True)
class MadeCohort:
    """A cohort on disk: its folder, its atlases, the folder of its true labels."""

    folder: Path
    atlases: list[str]
    truth: Path


@task(**TASK_OPTIONS)
def make_cohort(output: Path, cases: int) -> MadeCohort:
    """Make the synthetic cohort beside the output folder; what is there already is kept."""
    folder = make_synthetic_cohort(demo_folder(output), cases=cases)
    labelled = [case.id for case in open_cohort(folder).cases if case.label is not None]
    return MadeCohort(folder, labelled[:ATLASES], folder / TRUTH)
