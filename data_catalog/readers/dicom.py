"""DICOM: a folder tree in which each folder holds the slices of one series."""

import os
from collections.abc import Iterator
from pathlib import Path

from covoxel.io import ImageError
from data_catalog.readers.base import Found, assemble
from data_catalog.schema import Cohort, Rejected

NAME = "dicom"
LOOKS_FOR = "DICOM series, one a folder"
_MAGIC_AT = 128
_MAX_FOLDERS = 100_000


def detect(path: Path) -> bool:
    """Whether a folder of the tree holds a DICOM file."""
    return next(_folders(path), None) is not None


def read(path: Path) -> Cohort:
    """One case a folder that holds DICOM files, named by the folders that lead to it.

    No patient data are kept: neither names nor numbers are read from the files. A folder that holds slices of
    several series is set aside.
    """
    from covoxel.io.dicom import list_dicom_series  # loads SimpleITK, which most cohorts do not need

    found: list[Found] = []
    rejected: list[Rejected] = []
    for folder in _folders(path):
        parts = folder.relative_to(path).parts or (path.resolve().name,)
        case_id = "-".join(parts)
        try:
            series = list_dicom_series(folder)
        except ImageError as error:
            rejected.append(Rejected(case_id, folder, str(error).replace(str(folder), "/".join(parts))))
            continue
        if len(series) > 1:
            reason = f"{'/'.join(parts)}: the folder holds {len(series)} DICOM series; each must lie in its own folder"
            rejected.append(Rejected(case_id, folder, reason))
        elif series:
            found.append(Found(case_id, folder, subject=parts[0]))
    return assemble(path, found, rejected=rejected)


def _folders(path: Path) -> Iterator[Path]:
    """Folders of the tree, in order of their names, whose first file is DICOM."""
    for number, (folder, subfolders, files) in enumerate(os.walk(path)):
        if number >= _MAX_FOLDERS:
            return
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith(".") and name != "DICOMDIR")
        if any(_is_dicom(Path(folder) / name) for name in names[:20]):
            yield Path(folder)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAGIC_AT + 4)[_MAGIC_AT:] == b"DICM"
    except OSError:
        return False
