"""What svf carries from atlases to one case: label maps fused from each draw's atlases, kept to teach, or scored."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import ENGINE, Cohort, code_digest
from benchmarks.fusion_jobs import Workers
from benchmarks.league_methods import LABELLER
from benchmarks.measure import Stopwatch
from benchmarks.sweep_plan import Draw
from benchmarks.sweep_scores import CaseScore, PairScore, score_of, score_pair
from covoxel.fusion import Evidence, fuse, gather_evidence
from covoxel.io import sha256_file, sha256_json, write_image, write_json, write_labels
from covoxel.registration import register
from covoxel.spatial import Image, Transform

RULES = (LABELLER, "joint_label_fusion")
_CODE = ("registration", "spatial", "losses", "preprocessing", "fusion")
_SOURCES = ("sweep_carried.py", "fusion_evidence.py")


@dataclass(frozen=True)
class CarriedJob:
    """A case, and the sets of atlases that are to label it.

    Parameters
    ----------
    cohort
        All atlases that occur.
    case
        Which is labelled.
    sets
        Of atlases; each is fused by itself, from the same transforms.
    folders
        Of each set, where its label maps go; none are read or written to score.
    """

    cohort: Cohort
    case: str
    sets: tuple[tuple[str, ...], ...]
    folders: tuple[Path, ...] = ()


def fused_folder(work: Path, cohort: Cohort, atlases: Sequence[str]) -> Path:
    """Where the label maps fused from a set of atlases lie; its name changes with these, all images and the code."""
    files = [
        *(cohort.source / "images" / f"{case}.nii.gz" for case in (*atlases, *cohort.cases)),
        *(cohort.source / "labels" / f"{atlas}.nii.gz" for atlas in atlases),
    ]
    data = {str(file.relative_to(cohort.source)): sha256_file(file) for file in files}
    return work / f"fused-{len(atlases)}-{sha256_json([list(atlases), data, code_digest(_CODE), _own()])[:10]}"


def _own() -> list[str]:
    return [hashlib.sha256((ROOT / "benchmarks" / name).read_bytes()).hexdigest() for name in _SOURCES]


def fuse_all(cohort: Cohort, cases: Sequence[str], draws: Sequence[Draw], work: Path, workers: Workers) -> list[Path]:
    """Folder of each draw with fused label maps of `cases`, some of those of `cohort`; what is there is not redone."""
    folders = [fused_folder(work, cohort, draw.atlases) for draw in draws]
    wanted = dict(zip(folders, (draw.atlases for draw in draws), strict=True))
    jobs = []
    for case in cases:
        todo = {folder: atlases for folder, atlases in wanted.items() if not seconds_file(folder, case).is_file()}
        if todo:
            jobs.append(CarriedJob(cohort, case, tuple(todo.values()), tuple(todo)))
    if jobs:
        workers.all("labels fused to teach", fuse_to_teach, jobs)
    return folders


def fuse_to_teach(job: CarriedJob) -> None:
    """Write label map and confidence of one case for each set, on the grid of its image, then the seconds of it."""
    evidence, _, seconds = _evidence(job)
    grid = job.cohort.image(job.case).grid
    for atlases, folder in zip(job.sets, job.folders, strict=True):
        with Stopwatch() as watch:
            fused = fuse(LABELLER, _of(evidence, job.cohort, atlases))
        write_labels(label_file(folder, job.case), Image(fused.label_map, grid))
        write_image(confidence_file(folder, job.case), Image(fused.confidence, grid))
        share = len(atlases) / len(job.cohort.atlases)
        write_json(seconds_file(folder, job.case), {"seconds": share * seconds + watch.cpu_seconds})


@dataclass(frozen=True)
class Carried:
    """Scores of one case: of each set of atlases by each of `RULES`, and of every atlas alone."""

    fused: tuple[dict[str, CaseScore], ...]
    pairs: tuple[PairScore, ...]


def score_carried(job: CarriedJob) -> Carried:
    """Label one case from each set of atlases; the truth is looked at when all labels are there."""
    cohort = job.cohort
    evidence, transforms, _ = _evidence(job)
    found = [{rule: fuse(rule, _of(evidence, cohort, atlases)).label_map for rule in RULES} for atlases in job.sets]
    truth = cohort.label_map(job.case)
    fused = tuple({rule: score_of(job.case, label_map, truth) for rule, label_map in own.items()} for own in found)
    named = zip(cohort.atlases, transforms, strict=True)
    return Carried(fused, tuple(score_pair(job.case, a, t, cohort.label_map(a), truth) for a, t in named))


def scores_key(cohort: Cohort, draws: Sequence[Draw]) -> str:
    """Eight letters that change with the atlases, the cases and the code."""
    sets = [draw.atlases for draw in draws]
    return sha256_json([cohort.atlases, cohort.cases, sets, code_digest((*_CODE, "metrics")), _own()])[:8]


def _evidence(job: CarriedJob) -> tuple[Evidence, list[Transform], float]:
    """What the atlases of all sets say, in the order of the cohort, and the seconds of bringing them there."""
    cohort = job.cohort
    fixed, moving = cohort.image(job.case), [cohort.image(atlas) for atlas in cohort.atlases]
    label_maps = [cohort.label_map(atlas) for atlas in cohort.atlases]
    with Stopwatch() as watch:
        transforms = register(ENGINE, fixed, moving)
        evidence = gather_evidence(fixed, moving, label_maps, transforms)
    return evidence, transforms, watch.cpu_seconds


def _of(evidence: Evidence, cohort: Cohort, atlases: Sequence[str]) -> Evidence:
    return evidence.of_atlases(torch.tensor([cohort.atlases.index(atlas) for atlas in atlases]))


def label_file(folder: Path, case: str) -> Path:
    """Where the fused label map of a case lies."""
    return folder / f"{case}.nii.gz"


def confidence_file(folder: Path, case: str) -> Path:
    """Where its confidence lies."""
    return folder / f"{case}_confidence.nii.gz"


def seconds_file(folder: Path, case: str) -> Path:
    """Where its seconds lie; written last, so that a case is done if it is there."""
    return folder / f"{case}.seconds.json"


def minutes_of(folder: Path, cases: Sequence[str]) -> float:
    """What the label maps of `cases` took, one after the other in one process of one thread."""
    files = [seconds_file(folder, case) for case in cases]
    return sum(float(json.loads(file.read_text(encoding="utf-8"))["seconds"]) for file in files) / 60
