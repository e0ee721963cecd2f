"""One training of a label sweep: what it is made of, the key it is kept by, and what it begins with."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import Cohort
from benchmarks.sweep_cases import cases_of, fused_labels
from benchmarks.sweep_ground import Ground
from benchmarks.sweep_plan import DEEPATLAS, DEEPATLAS_FUSED, ONE_NETWORK, SEGMENTATION
from benchmarks.sweep_recipes import (
    AnyRecipe,
    after_registration,
    load,
    segmentation_alone,
    times,
    two_networks,
    unsupervised,
    with_judges,
)
from covoxel.io import sha256_file, sha256_json

UNSUPERVISED = "unsupervised"
"""Training of the registration network that no label teaches, and that methods of two networks share."""

_SHARED = (
    "covoxel/training/*.py",
    "covoxel/training/registration/*.py",
    "covoxel/losses/**/*.py",
    "covoxel/spatial/**/*.py",
    "covoxel/preprocessing/**/*.py",
    "nets/registration/**/*.py",
    "benchmarks/sweep_cases.py",
)
_TWO = ("covoxel/training/joint/*.py", "nets/segmentation/*.py", "nets/blocks.py")
_ONE = ("covoxel/training/joint/*.py", "covoxel/training/joint_net/*.py", "nets/joint/*.py")
"""What a training of each kind runs; other code does not make it begin anew."""


@dataclass(frozen=True)
class SweepJob:
    """One training.

    Parameters
    ----------
    method
        One of `METHODS` that trains, or `UNSUPERVISED`.
    recipe
        Name or file of the joint recipe.
    source
        Folder with `images/` and `labels/`.
    atlases, unlabelled
        Ids; only the labels of atlases are read.
    scale
        Of the recipe's steps.
    seed, threads, device
        Of the training.
    start
        Folder of the registration network that it begins with.
    fused
        Folder of fused label maps of the unlabelled cases.
    """

    method: str
    recipe: str
    source: Path
    atlases: tuple[str, ...]
    unlabelled: tuple[str, ...]
    scale: float
    seed: int
    threads: int
    device: str
    start: Path | None = None
    fused: Path | None = None

    @property
    def name(self) -> str:
        """For people and for folders."""
        return f"{self.method}-{len(self.atlases)}" if self.atlases else self.method

    @property
    def key(self) -> str:
        """Ten letters that change with the recipe, the images, the labels, the code and the budget."""
        files = [self.source / "images" / f"{case}.nii.gz" for case in (*self.atlases, *self.unlabelled)]
        files += [self.source / "labels" / f"{case}.nii.gz" for case in self.atlases]
        data = {str(file.relative_to(self.source)): sha256_file(file) for file in files}
        places = {
            "source": "",
            "recipe": asdict(recipe_of(self)),
            "start": self.start and sha256_file(self.start / "weights.safetensors"),
            "fused": self.fused and self.fused.name,  # which is its key
        }
        return sha256_json([asdict(self) | places, data, _code(self.method)])[:10]


def recipe_of(job: SweepJob) -> AnyRecipe:
    """The recipe as it is trained."""
    recipe = load(job.recipe, job.seed)
    if job.method == UNSUPERVISED:
        return times(unsupervised(two_networks(recipe)), job.scale)
    if job.method not in ONE_NETWORK:
        part = segmentation_alone if job.method == SEGMENTATION else after_registration
        recipe = part(two_networks(recipe))
    return times(with_judges(recipe, len(job.atlases)), job.scale)


def ground_of(job: SweepJob) -> Ground:
    """Images and labels of a training, on their frame."""
    cases, frame = cases_of(Cohort(job.source, Path(), job.atlases, job.unlabelled))
    if job.method == SEGMENTATION:
        cases = [case for case in cases if case.labels is not None]
    fused = fused_labels(job.fused, job.unlabelled, frame) if job.fused is not None else {}
    return Ground(cases, frame, fused, job.start)


def job_of(data: dict[str, Any]) -> SweepJob:
    """A job from the JSON it was sent as."""
    lists = {name: tuple(data[name]) for name in ("atlases", "unlabelled")}
    paths = {name: Path(data[name]) if data.get(name) else None for name in ("start", "fused")}
    return SweepJob(**{**data, **lists, **paths, "source": Path(data["source"])})


def _code(method: str) -> str:
    patterns = {SEGMENTATION: _TWO, DEEPATLAS: _TWO, DEEPATLAS_FUSED: _TWO} | dict.fromkeys(ONE_NETWORK, _ONE)
    digest = hashlib.sha256()
    for path in sorted(path for pattern in (*_SHARED, *patterns.get(method, ())) for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()
