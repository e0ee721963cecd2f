"""Flat cohort: NIfTI files lying directly in one folder."""

from collections.abc import Container
from pathlib import Path

from data_catalog.readers.base import Found, assemble, label_names_from_tsv, list_images, stem
from data_catalog.schema import Cohort

NAME = "flat"
LOOKS_FOR = "plain .nii or .nii.gz files"
LABEL_ENDINGS = ("_dseg", "_seg", "_label", "_labels")


def detect(path: Path) -> bool:
    """Whether NIfTI files lie directly in the folder."""
    return bool(list_images(path))


def read(path: Path) -> Cohort:
    """Every NIfTI file is a case, except that `X_seg`, `X_dseg`, `X_label` beside an image `X` is its label.

    The label of `X_T1w` may also be called `X_seg`.
    """
    images = {stem(image): image for image in reversed(list_images(path))}
    labels: dict[str, Path] = {}
    for name, file in images.items():
        owner = _owner(name, images)
        if owner:
            labels[owner] = file
    used = set(labels.values())
    found = [Found(stem(i), i, labels.get(stem(i))) for i in list_images(path) if i not in used]
    return assemble(path, found, label_names=label_names_from_tsv(path))


def _owner(name: str, images: Container[str]) -> str | None:
    """Name of the image whose label is called `name`, if it is a label's name."""
    for ending in LABEL_ENDINGS:
        base = name.removesuffix(ending)
        if base != name:
            return next((image for image in (base, f"{base}_T1w") if image in images), None)
    return None
