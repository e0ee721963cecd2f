"""Label maps of the unlabelled cases, propagated from the atlases by svf and fused: what teaches beside the atlases."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import ENGINE, Cohort, code_digest
from benchmarks.fusion_jobs import Workers
from benchmarks.league_methods import LABELLER
from benchmarks.measure import say
from covoxel.fusion import fuse, gather_evidence
from covoxel.io import sha256_file, sha256_json, write_json, write_labels
from covoxel.registration import register
from covoxel.spatial import Image

_CODE = ("registration", "spatial", "losses", "preprocessing", "fusion")
_SOURCES = ("league_propagation.py", "fusion_evidence.py")


@dataclass(frozen=True)
class PropagationJob:
    """A case without a label, and where its label map goes.

    Parameters
    ----------
    cohort
        The atlases; its cases are the unlabelled ones.
    case
        Id of the case; its own label is not read.
    folder
        For label maps and seconds.
    """

    cohort: Cohort
    case: str
    folder: Path


def propagate_all(cohort: Cohort, work: Path, workers: Workers) -> Path:
    """Folder of the label maps of all cases of `cohort`; those that are there are not made again."""
    folder = work / f"propagated-{_key(cohort)}"
    todo = [case for case in cohort.cases if not seconds_file(folder, case).is_file()]
    if todo:
        workers.all("labels propagated", propagate, [PropagationJob(cohort, case, folder) for case in todo])
    say(
        f"{len(cohort.cases)} cases with labels by {ENGINE} and {LABELLER}: {minutes_of(folder):.1f} minutes of one "
        "process, once for all recipes that learn from labels"
    )
    return folder


def propagate(job: PropagationJob) -> float:
    """Write the label map of one case, on the grid of its preprocessed image, then the seconds it took."""
    start = perf_counter()
    fixed, names = job.cohort.image(job.case), job.cohort.atlases
    moving = [job.cohort.image(name) for name in names]
    label_maps = [job.cohort.label_map(name) for name in names]
    evidence = gather_evidence(fixed, moving, label_maps, register(ENGINE, fixed, moving))
    write_labels(label_file(job.folder, job.case), Image(fuse(LABELLER, evidence).label_map, fixed.grid))
    seconds = perf_counter() - start
    write_json(seconds_file(job.folder, job.case), {"seconds": seconds})
    return seconds


def label_file(folder: Path, case: str) -> Path:
    """Where the label map of a case lies."""
    return folder / f"{case}.nii.gz"


def seconds_file(folder: Path, case: str) -> Path:
    """Where the seconds of a case lie; written last, so that a case is done if it is there."""
    return folder / f"{case}.seconds.json"


def minutes_of(folder: Path) -> float:
    """What all label maps of a folder took, one after the other in one process of one thread."""
    files = folder.glob("*.seconds.json")
    return sum(float(json.loads(file.read_text(encoding="utf-8"))["seconds"]) for file in files) / 60


def _key(cohort: Cohort) -> str:
    """Ten letters that change with the atlases, their labels, the images and the code."""
    files: Sequence[Path] = [
        *(cohort.source / "images" / f"{case}.nii.gz" for case in (*cohort.atlases, *cohort.cases)),
        *(cohort.source / "labels" / f"{atlas}.nii.gz" for atlas in cohort.atlases),
    ]
    data = {str(file.relative_to(cohort.source)): sha256_file(file) for file in files}
    own = [hashlib.sha256((ROOT / "benchmarks" / name).read_bytes()).hexdigest() for name in _SOURCES]
    return sha256_json([cohort.atlases, cohort.cases, data, code_digest(_CODE), own])[:10]
