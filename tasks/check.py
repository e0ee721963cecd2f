"""Check: whether each image, and each atlas label, is fit for use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prefect import task

from covoxel.io import ImageError, read_labels, write_labels
from covoxel.manifest import Record
from data_catalog import Case, CheckedCase, Count, check_case, expected_ndim, find_duplicates
from data_catalog.files import sha256_of
from tasks.atlas_label import without_value
from tasks.call import CallError
from tasks.facts import CheckFacts
from tasks.job import Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.study import Study

ABSENT = "absent"


@dataclass(frozen=True)
class CheckJob(Job):
    """A case to check.

    Parameters
    ----------
    subject
        The case as the catalog knows it.
    known_labels
        Label values that may occur; None for any.
    ndim
        2 or 3, what the cohort is; None if unknown.
    ignore
        Label value that marks voxels without a label; None if the cohort has none.
    """

    stage = "check"
    facts = CheckFacts
    code = (
        "covoxel.io",
        "data_catalog.checks",
        "data_catalog.files",
        "data_catalog.vocabulary",
        "tasks.atlas_label",
        "tasks.check",
    )

    subject: Case
    known_labels: tuple[int, ...] | None
    ndim: int | None
    ignore: int | None = None

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of image and label as they lie on disk."""
        files = {"image": self.subject.image, "label": self.subject.label}
        hashes = {}
        for name, path in files.items():
            if path is not None:
                try:
                    hashes[name] = sha256_of(path)
                except (OSError, ImageError):
                    hashes[name] = ABSENT
        return hashes

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return self.hashes

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        ignore = {} if self.ignore is None else {"ignore": self.ignore}
        return {"file": self.subject.image.name, "known_labels": self.known_labels, "ndim": self.ndim, **ignore}


@task(task_run_name="check {job.case}", **TASK_OPTIONS)
@work
def check(job: CheckJob) -> Made:
    """Hold one case against the rules of the catalog; what it finds is in the facts of the record.

    A label map with voxels to ignore is written anew, with background in their place: all other stages read that one.
    """
    found = check_case(job.subject, job.known_labels, job.ndim, job.ignore)
    outputs = []
    if found.holds_ignore and found.reason is None and job.subject.label is not None:
        outputs.append(job.layout.without_ignore(job.case))
        write_labels(outputs[0], without_value(read_labels(job.subject.label), job.ignore))
    return Made(
        outputs,
        {
            "reason": found.reason,
            "voxels_sha256": found.voxels_sha256,
            "shape": list(found.shape),
            "spacing_mm": [round(float(s), 6) for s in found.spacing_mm],
            "label_values": list(found.label_values),
        },
    )


def check_jobs(study: Study) -> list[CheckJob]:
    """A job for each atlas and each case of the run."""
    labels = tuple(sorted(study.cohort.label_names)) or None
    ndim = expected_ndim(study.cohort)
    ignore = study.cohort.ignore
    return [CheckJob(case.id, study.call.output, "cpu", case, labels, ndim, ignore) for case in study.named]


def count_of(study: Study) -> Count:
    """How many entries the cohort had, and what became of them once the check was done."""
    cohort = study.cohort
    excluded = sum(case.id in study.set_aside for case in cohort.cases)
    return Count(len(cohort.cases) - excluded, len(cohort.rejected) + excluded, cohort.ignored)


def set_aside(study: Study) -> None:
    """Set aside what the checks found unfit, and copies of what is there already.

    Raises
    ------
    CallError
        If atlases are named and none is left.
    """
    records = study.records["check"]
    for rejected in study.cohort.rejected:
        study.set_aside[rejected.id] = rejected.reason
    for case, record in records.items():
        if record.facts["reason"]:
            study.set_aside[case] = record.facts["reason"]
    study.set_aside |= find_duplicates(_checked(study.named, records))
    if study.cohort.atlases and not study.atlases:
        reasons = "; ".join(
            f"{case.id}: {study.set_aside.get(case.id) or study.failed.get(case.id)}" for case in study.cohort.atlases
        )
        raise CallError(f"no atlas is fit for use ({reasons})")


def _checked(cases: Iterable[Case], records: Mapping[str, Record]) -> list[CheckedCase]:
    return [
        CheckedCase(
            case,
            voxels_sha256=records[case.id].facts["voxels_sha256"],
            reason=records[case.id].facts["reason"],
        )
        for case in cases
        if case.id in records
    ]
