"""What the atlases say about each case: registered once by svf, kept on disk, the same for every rule."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from benchmarks import common
from covoxel.fusion import Evidence, gather_evidence
from covoxel.io import read_image, read_labels, read_transform, write_transform
from covoxel.preprocessing import canonical, preprocess
from covoxel.registration import register
from covoxel.spatial import Image

ENGINE = "svf"
STRUCTURES = {1: "anterior", 2: "posterior"}
_CODE = ("registration", "spatial", "losses", "preprocessing")


@dataclass(frozen=True)
class Cohort:
    """The labelled atlases, the cases to label, and where data and transforms lie.

    Parameters
    ----------
    source
        Folder with `images/` and `labels/`.
    transforms
        Folder of the transforms.
    atlases, cases
        Their ids, in order; the first k atlases are the cohort with k labels.
    """

    source: Path
    transforms: Path
    atlases: tuple[str, ...]
    cases: tuple[str, ...]

    def image(self, case: str) -> Image:
        """The preprocessed image."""
        return _image(self.source / "images" / f"{case}.nii.gz")

    def label_map(self, case: str) -> Image:
        """The labels that came with the case, on the grid of its preprocessed image."""
        return _label_map(self.source / "labels" / f"{case}.nii.gz")

    def truth(self, case: str) -> Tensor:
        """Its true labels `(*shape)`: for scoring, or of an atlas."""
        return self.label_map(case).data

    def names(self, case: str, count: int) -> tuple[str, ...]:
        """The first `count` atlases without the case itself."""
        return tuple(atlas for atlas in self.atlases[:count] if atlas != case)

    def evidence(self, case: str, count: int) -> Evidence:
        """Evidence of `names`, in their order."""
        fixed, names = self.image(case), self.names(case, count)
        return gather_evidence(
            fixed,
            [self.image(name) for name in names],
            [self.label_map(name) for name in names],
            [read_transform(self.transform(case, name), fixed.grid) for name in names],
        )

    def transform(self, case: str, atlas: str) -> Path:
        """File of the transform that brings an atlas onto a case."""
        return self.transforms / case / f"{atlas}.h5"


@lru_cache(maxsize=64)
def _image(path: Path) -> Image:
    return preprocess(read_image(path))


@lru_cache(maxsize=64)
def _label_map(path: Path) -> Image:
    return canonical(read_labels(path))


def register_atlases(job: tuple[Cohort, str]) -> int:
    """Bring onto one case all atlases whose transforms are not there yet; how many those were."""
    cohort, case = job
    missing = [name for name in cohort.names(case, len(cohort.atlases)) if not cohort.transform(case, name).exists()]
    if missing:
        found = register(ENGINE, cohort.image(case), [cohort.image(name) for name in missing])
        for name, transform in zip(missing, found, strict=True):
            write_transform(cohort.transform(case, name), transform)
    return len(missing)


def code_digest(packages: Sequence[str] = _CODE) -> str:
    """Eight letters that change with the code the transforms depend on, so that none of older code are taken."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((common.ROOT / "covoxel" / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
