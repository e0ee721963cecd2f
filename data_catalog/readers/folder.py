"""Folder cohort: `images/` and, beside it, `labels/` with the same file names."""

from pathlib import Path

from data_catalog.readers.base import (
    Found,
    assemble,
    label_names_from_tsv,
    list_images,
    peek_json,
    read_json,
    report_strays,
    stem,
    text,
)
from data_catalog.schema import Cohort, CohortError

NAME = "folder"
LOOKS_FOR = "a folder images/ of .nii or .nii.gz files, with labels/ beside it if there are any"


def detect(path: Path) -> bool:
    """Whether there is an `images/` with NIfTI files."""
    return bool(list_images(path / "images"))


def read(path: Path) -> Cohort:
    """Cases of `images/`, labelled where `labels/` has the same name; `split.json` may list `test` cases.

    Its `atlases` and `unlabelled` are not read: which cases are atlases is said by whoever segments.
    """
    images = list_images(path / "images")
    labels = {stem(label): label for label in list_images(path / "labels")}
    names = {stem(image) for image in images}
    test = _test_ids(path / "split.json")
    report_strays(labels.keys() - names, "labels without an image are not used")
    report_strays(test - names, "split.json lists test cases that are not there")
    found = [
        Found(stem(image), image, labels.get(stem(image)), "test" if stem(image) in test else "unlabelled")
        for image in images
    ]
    description = peek_json(path / "dataset_description.json")
    return assemble(
        path,
        found,
        name=text(description.get("Name")) or "",
        label_names=label_names_from_tsv(path),
        licence=text(description.get("License")),
    )


def _test_ids(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    ids = read_json(path).get("test", [])
    if not isinstance(ids, list) or not all(isinstance(case_id, str) for case_id in ids):
        raise CohortError(f"{path}: 'test' must be a list of case names, got {str(ids)[:80]}")
    return set(ids)
