"""Folder cohort: `images/` and, beside it, `labels/` with the same file names."""

from pathlib import Path

from covoxel.io.formats import image_stem
from data_catalog.listing import Account, holds_images, is_file
from data_catalog.readers.base import Found, assemble, pair_by_name, peek_json, read_json, report_strays, text
from data_catalog.schema import Cohort, CohortError
from data_catalog.vocabulary import vocabulary_from_tables

NAME = "folder"
LOOKS_FOR = "a folder images/ of image files, with labels/ beside it if there are any"
RULE = "images must lie directly in images/, their label maps in labels/"
IGNORED = ("truth", "derivatives", "sourcedata")
"""Folders beside `images/` that are left out on purpose; `truth` is where true labels for scoring usually lie."""


def detect(path: Path) -> bool:
    """Whether there is an `images/` with image files."""
    return holds_images(path / "images")


def read(path: Path) -> Cohort:
    """Cases of `images/`, labelled where `labels/` has the same name; `split.json` may list `test` cases.

    Its `atlases` and `unlabelled` are not read: which cases are atlases is for the call of a run to name.
    """
    account = Account(path)
    images = account.images(path / "images")
    names = {image_stem(image) for image in account.listing(path / "images").candidates}
    labels = pair_by_name(account, account.labels(path / "labels"), names)
    test = _test_ids(path / "split.json")
    report_strays(test - names, "split.json lists test cases that are not there")
    found = [
        Found(image_stem(i), i, labels.get(image_stem(i)), "test" if image_stem(i) in test else "unlabelled")
        for i in images
    ]
    account.rest(RULE, ignored=[path / name for name in IGNORED])
    description = peek_json(path / "dataset_description.json")
    return assemble(
        path,
        found,
        name=text(description.get("Name")) or "",
        vocabulary=vocabulary_from_tables(path),
        licence=text(description.get("License")),
        rejected=account.rejected,
        ignored=account.ignored,
    )


def _test_ids(path: Path) -> set[str]:
    if not is_file(path):
        return set()
    ids = read_json(path).get("test", [])
    if not isinstance(ids, list) or not all(isinstance(case_id, str) for case_id in ids):
        raise CohortError(f"{path}: 'test' must be a list of case names, got {str(ids)[:80]}")
    return set(ids)
