"""DICOM: a folder tree in which each folder holds the slices of one series."""

import hashlib
from pathlib import Path
from typing import Literal

from covoxel.io.dicom_folder import holds_dicom, read_tree
from covoxel.io.dicom_header import SeriesKey
from covoxel.io.formats import image_stem
from data_catalog.readers.base import Found, assemble, report_strays
from data_catalog.readers.dicom_series import places
from data_catalog.schema import Cohort, Rejected

Ids = Literal["folder", "hash"]

NAME = "dicom"
LOOKS_FOR = "DICOM series, one a folder"


def detect(path: Path) -> bool:
    """Whether the tree holds a DICOM file."""
    return holds_dicom(path)


def read(path: Path, ids: Ids = "folder") -> Cohort:
    """One case a DICOM series; no patient data are read from the files, neither names nor numbers.

    Parameters
    ----------
    path
        Folder of the tree. Links to folders are followed, each folder is read once.
    ids
        "folder": a case is named by the folders that lead to it, and the first of them is the subject. Names of
        folders may be names of people. "hash": a case is named by the first digits of the SHA-256 of its
        StudyInstanceUID and SeriesInstanceUID, a subject by those of its folder's name, and sentences name no folder.
        This is a pseudonym: who knows the folder's name can compute it.

    Returns
    -------
    Cohort
        Folders that cannot be opened, hold several series, damaged slices, or a part of a series, and images of
        other formats are in `rejected`, each with a sentence.
    """
    tree, names = read_tree(path), _Names(path, ids)
    found = places(tree)
    rejected = [(folder, reason) for folder, reason in tree.closed]
    rejected += sorted(found.excluded.items())
    rejected += [
        (image, f"{image} is an image of another format in a folder tree of DICOM; list it in a table to use it")
        for content in tree.contents
        for image in content.images
    ]
    for folder, words in found.beside.items():
        report_strays([f"{names.of(folder)} ({words})"], "series beside a scan are not used")
    return assemble(
        path,
        [Found(names.of(f, key), f, subject=names.subject(f)) for f, key in sorted(found.series.items())],
        rejected=[Rejected(names.of(place), place, names.hidden(place, reason)) for place, reason in rejected],
    )


class _Names:
    """Names of cases and subjects, and sentences with names of folders as the cohort's reader wants them."""

    def __init__(self, root: Path, ids: Ids) -> None:
        self.root, self.ids = root, ids

    def of(self, place: Path, key: SeriesKey | None = None) -> str:
        """Name of the case in a folder, or of a file that is no case."""
        if self.ids == "folder":
            return "-".join(self._parts(place))
        return f"dicom-{_digits('/'.join(key) if key else '/'.join(self._parts(place)))}"

    def subject(self, folder: Path) -> str:
        """Name of the subject."""
        first = self._parts(folder)[0]
        return first if self.ids == "folder" else f"subject-{_digits(first)}"

    def hidden(self, place: Path, reason: str) -> str:
        """Sentence with places as seen from the cohort, or with their ids instead."""
        own = place.relative_to(self.root).as_posix() if place != self.root else self.root.resolve().name
        shown = own if self.ids == "folder" else self.of(place)
        return reason.replace(str(place), shown).replace(f"{self.root}/", "")

    def _parts(self, place: Path) -> tuple[str, ...]:
        parts = place.relative_to(self.root).parts or (self.root.resolve().name,)
        return parts if place.is_dir() else (*parts[:-1], image_stem(parts[-1]))


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
