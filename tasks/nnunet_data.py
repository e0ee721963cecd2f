"""What nnU-Net is trained on: images as they came, labels of the atlases, fused labels of the others; and its folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covoxel.external.nnunet import Dataset, DatasetCase, write_dataset
from covoxel.io import write_image
from data_catalog.files import load_image
from tasks import joint_network
from tasks.align import training_ids
from tasks.atlas_label import label_of
from tasks.fuse import fused_places
from tasks.job import Artifact
from tasks.joint_training import FEWEST
from tasks.study import Study

NAME = "nnunet"
DATASET = "Dataset001_covoxel"
GROUPS = 5
"""Parts of the atlases, of which each fold holds one out to judge by."""


@dataclass(frozen=True)
class TaughtCase:
    """A case that teaches.

    Parameters
    ----------
    image
        As it came.
    label
        Drawn, or fused, or replaced where a model was surer, on the image's grid.
    confidence
        In a label map that nobody drew.
    weight
        Of the case in the loss.
    """

    id: str
    image: Artifact
    label: Artifact
    confidence: Artifact | None
    weight: float

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file, by what it is."""
        named = {"image": self.image, "label": self.label, "confidence": self.confidence}
        return {f"{self.id}.{name}": file.sha256 for name, file in named.items() if file is not None}


def taught_cases(study: Study, round_: int) -> list[TaughtCase]:
    """Atlases, and other cases with fused labels; from the second round on with those that a model was surer of."""
    cases, layout = [], study.layout
    ids = set(training_ids(study))
    for case in (*study.atlases, *study.fixed):
        image = Artifact(case.image, study.records["check"][case.id].inputs["image"])
        if case.role == "atlas":
            cases.append(TaughtCase(case.id, image, label_of(study, case), None, 1.0))
        elif case.id in ids and (fused := study.record("fuse", case.id)) is not None:
            stage, places = "fuse", fused_places(layout, case.id, study.fuses_apart)
            if round_ > 1 and study.record("relabel", case.id) is not None:
                stage, places = "relabel", layout.relabelled(case.id)
            label, confidence = (study.artifact(stage, case.id, place) for place in places)
            cases.append(TaughtCase(case.id, image, label, confidence, fused.facts["quality"] or 1.0))
    return cases


def label_names(study: Study) -> dict[int, str]:
    """Names of the structures that the atlases have, by value."""
    values = {value for atlas in study.atlases for value in study.records["check"][atlas.id].facts["label_values"]}
    return {value: study.cohort.label_names.get(value) or f"label {value}" for value in sorted(values) if value}


def make_dataset(folder: Path, cases: Sequence[TaughtCase], names: Mapping[int, str]) -> Dataset:
    """A plain nnU-Net data set of the cases, in `folder`; a DICOM series becomes a NIfTI file on the way."""
    found = [
        DatasetCase(
            case.id,
            (_nifti(folder, case),),
            case.label.path,
            None if case.confidence is None else case.confidence.path,
            case.weight,
        )
        for case in cases
    ]
    return write_dataset(folder / DATASET, found, names=names)


def folds_of(study: Study) -> list[tuple[str, ...]]:
    """Ids of the atlases that each fold holds out; one that holds out nobody where none can be spared.

    The first one holds out those that a jointly trained network of the same run held out, so that they judge both.
    """
    atlases = [atlas.id for atlas in study.atlases]
    if len(atlases) < FEWEST:
        return [()]
    spared = joint_network.untaught(study) if study.joint_recipe is not None else []
    first = tuple(spared or atlases[::GROUPS])
    rest = [atlas for atlas in atlases if atlas not in first]
    groups = [first, *(tuple(rest[start :: GROUPS - 1]) for start in range(GROUPS - 1))]
    return groups[: study.call.settings.segment.nnunet.folds]


def held_out(study: Study, fold: int, cases: Sequence[TaughtCase]) -> tuple[str, ...]:
    """Ids of the cases that a fold holds out: its atlases, and if there is a second round its share of all others."""
    settings, folds = study.call.settings.segment.nnunet, folds_of(study)
    fused = [case.id for case in cases if case.confidence is not None] if settings.rounds > 1 else []
    return (*folds[fold], *fused[fold :: len(folds)]) if len(folds) > 1 else folds[fold]


def _nifti(folder: Path, case: TaughtCase) -> Path:
    if not case.image.path.is_dir():
        return case.image.path
    path = folder / "images" / f"{case.id}-{case.image.sha256[:16]}.nii.gz"  # another series is another file
    if not path.is_file():
        write_image(path, load_image(case.image.path))
    return path
