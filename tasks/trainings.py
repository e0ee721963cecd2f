"""What all trainings have in common: how their records are called and told of, their threads, and their end."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from covoxel.manifest import Manifest, Record
from tasks.call import NothingDoneError
from tasks.study import Study

THREADS = 2
"""Of a training: a fixed number, so that results do not depend on the number of cores."""

Tell = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""


def job_name(recipe: str) -> str:
    """What stands for the id of a case in the record of a training by that recipe: no id begins so."""
    return f"@{recipe}"


def trained(output: Path, stage: str, recipe: str) -> Record | None:
    """Record of the training by a recipe in an output folder, if it has ended."""
    return Manifest(output).read(stage, job_name(recipe))


def trained_on(record: Record) -> list[str]:
    """Ids of the cases whose image trained a network."""
    return [name.removesuffix(".image") for name in record.inputs if name.endswith(".image")]


def require_model(study: Study, stage: str) -> None:
    """Refuse to end well without a model.

    Raises
    ------
    NothingDoneError
        If the training failed, or no case was left to train on.
    """
    if not study.records.get(stage):
        raise NothingDoneError(f"no model was trained: {study.trouble.get(stage, 'no case is fit to train on')}")


def clear_logs(logs: Path) -> None:
    """Remove the logs of an earlier training, which would be drawn over those of this one."""
    for path in logs.rglob("events.out.tfevents.*"):
        path.unlink()


def names_no_case(sentence: str, cases: Collection[str]) -> bool:
    """Whether a sentence may stand on a model card, which is passed on: it has no id of a case in it."""
    return not set(re.findall(r"[\w.+-]+", sentence)) & {*cases, *(f"{case}." for case in cases)}
