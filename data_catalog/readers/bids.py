"""BIDS: T1-weighted images under `sub-*/[ses-*/]anat`, label maps under `derivatives`."""

import csv
from pathlib import Path

from data_catalog.readers.base import (
    MAX_TEXT_BYTES,
    Found,
    assemble,
    entities,
    label_names_from_tsv,
    list_images,
    peek_json,
    stem,
    text,
)
from data_catalog.schema import Cohort

NAME = "bids"
LOOKS_FOR = "BIDS (sub-*/[ses-*/]anat/*_T1w.nii.gz)"
_OF_THE_LABEL = ("desc-", "space-", "label-", "seg-", "atlas-")
_ANAT = ("sub-*/anat", "sub-*/ses-*/anat")


def detect(path: Path) -> bool:
    """Whether a subject's `anat` folder holds a T1-weighted image."""
    return any(_t1w(folder) for folder in _anat_folders(path))


def read(path: Path) -> Cohort:
    """One case a T1-weighted image; its label is `derivatives/**/sub-…_dseg.nii.gz` with the same entities."""
    labels = _labels(path / "derivatives")
    dates = _dates(path)
    found = []
    for folder in _anat_folders(path):
        for image in _t1w(folder):
            case_id = stem(image).removesuffix("_T1w")
            subject, session = entities(case_id)
            date = dates.get((subject, session))
            found.append(Found(case_id, image, labels.get(case_id), subject=subject, session=session, date=date))
    description = peek_json(path / "dataset_description.json")
    names = label_names_from_tsv(path)
    for folder in sorted((path / "derivatives").glob("*")):
        names = names or label_names_from_tsv(folder)
    licence = text(description.get("License"))
    return assemble(path, found, name=text(description.get("Name")) or "", label_names=names, licence=licence)


def _anat_folders(path: Path) -> list[Path]:
    return sorted(folder for pattern in _ANAT for folder in path.glob(pattern) if folder.is_dir())


def _t1w(folder: Path) -> list[Path]:
    return [image for image in list_images(folder) if stem(image).endswith("_T1w")]


def _labels(derivatives: Path) -> dict[str, Path]:
    """Label maps by the entities of their image; of several for one image the first by path counts."""
    labels: dict[str, Path] = {}
    for label in sorted(derivatives.rglob("sub-*_dseg.nii*")):
        name = stem(label).removesuffix("_dseg").removesuffix("_T1w")
        kept = [part for part in name.split("_") if not part.startswith(_OF_THE_LABEL)]
        in_other_space = "_space-" in name and "_space-T1w" not in name and "_space-orig" not in name
        if not in_other_space and not label.name.startswith("."):
            labels.setdefault("_".join(kept), label)
    return labels


def _dates(path: Path) -> dict[tuple[str, str], str]:
    """Dates of visits from `sub-*/sub-*_sessions.tsv` (column acq_time)."""
    dates: dict[tuple[str, str], str] = {}
    for table in sorted(path.glob("sub-*/sub-*_sessions.tsv")):
        if table.stat().st_size > MAX_TEXT_BYTES:
            continue
        with table.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                date = (row.get("acq_time") or "n/a")[:10]
                if date != "n/a":
                    dates[table.parent.name, row.get("session_id") or ""] = date
    return dates
