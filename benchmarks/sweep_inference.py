"""What trained networks of the sweep say of the scored cases, scored and kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import Cohort, code_digest
from benchmarks.fusion_jobs import Workers
from benchmarks.sweep_ground import Atlases, Networks
from benchmarks.sweep_job import SweepJob, recipe_of
from benchmarks.sweep_networks import load_networks
from benchmarks.sweep_scores import CaseScore, PairScore, keep, kept, score_of, score_pair
from benchmarks.sweep_training import Training
from covoxel.io import sha256_file, sha256_json

_CODE = ("registration", "segmentation", "spatial", "preprocessing", "metrics")
_SOURCES = ("sweep_inference.py", "sweep_one_network.py", "sweep_two_networks.py", "sweep_scores.py")


@dataclass(frozen=True)
class AskJob:
    """A case, and the networks that are asked about it.

    Parameters
    ----------
    training
        Whose networks.
    cohort
        The atlases, and where images lie.
    case
        Which is segmented and registered.
    views
        How often a network sees an image that it segments alone.
    """

    training: Training
    cohort: Cohort
    case: str
    views: int


@dataclass(frozen=True)
class Answers:
    """Scores of label maps by name, "" the one that counts, and of transforms."""

    label_maps: dict[str, tuple[CaseScore, ...]]
    pairs: tuple[PairScore, ...]


def ask(job: AskJob) -> tuple[dict[str, CaseScore], list[PairScore]]:
    """Segment and register one case, and only then look at the truth."""
    torch.set_num_threads(1)
    spacing_mm = tuple(job.training.facts["spacing_mm"])
    cohort, networks = job.cohort, _loaded(job.training.job, job.training.folder, spacing_mm)
    fixed, names = cohort.image(job.case), cohort.atlases
    atlases = Atlases([cohort.image(name) for name in names], [cohort.label_map(name) for name in names])
    found = networks.label_maps(fixed, atlases, job.views)
    transforms = networks.transforms(fixed, atlases)
    truth = cohort.label_map(job.case)
    named = zip(names, transforms, atlases.label_maps, strict=bool(transforms))
    pairs = [score_pair(job.case, name, transform, labels, truth) for name, transform, labels in named]
    return {name: score_of(job.case, label_map, truth) for name, label_map in found.items()}, pairs


@lru_cache(maxsize=2)
def _loaded(job: SweepJob, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    return load_networks(recipe_of(job), folder, spacing_mm)


def ask_all(training: Training, cohort: Cohort, views: int, scores: Path, workers: Workers) -> Answers:
    """Scores of all cases of `cohort`, from the folder `scores` where they are there."""
    name = training.folder.name
    folder = scores / f"{name}-{_key(training, cohort, views)}"
    done = folder / "done"
    if not done.is_file():
        jobs = [AskJob(training, cohort, case, views) for case in cohort.cases]
        _write(folder, workers.all(name, ask, jobs))
        done.touch()
    files = sorted(folder.glob("label-map*.tsv"))
    label_maps = {file.stem.removeprefix("label-map").removeprefix("-"): kept(file, CaseScore) for file in files}
    pairs = folder / "pairs.tsv"
    return Answers(label_maps, kept(pairs, PairScore) if pairs.is_file() else ())


def _write(folder: Path, found: Sequence[tuple[dict[str, CaseScore], list[PairScore]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in found[0][0]:
        keep(folder / f"label-map{name and '-'}{name}.tsv", [label_maps[name] for label_maps, _ in found])
    pairs = [pair for _, own in found for pair in own]
    if pairs:
        keep(folder / "pairs.tsv", pairs)


def _key(training: Training, cohort: Cohort, views: int) -> str:
    """Eight letters that change with the weights, the cases, the atlases and the code."""
    files = sorted(training.folder.rglob("*.safetensors"))
    weights = {str(file.relative_to(training.folder)): sha256_file(file) for file in files}
    own = [hashlib.sha256((ROOT / "benchmarks" / name).read_bytes()).hexdigest() for name in _SOURCES]
    about = [asdict(recipe_of(training.job)), weights, cohort.atlases, cohort.cases, views]
    return sha256_json([*about, code_digest(_CODE), own])[:8]
