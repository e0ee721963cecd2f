"""Readers: one file per way a cohort lies on disk, recognised by its content."""

from pathlib import Path
from typing import Protocol

from data_catalog.readers import bids, decathlon, dicom, flat, folder, nnunet, table
from data_catalog.schema import Cohort, CohortError


class Reader(Protocol):
    """A module that recognises and reads one layout."""

    NAME: str
    LOOKS_FOR: str

    def detect(self, path: Path) -> bool:
        """Whether `path` holds this layout; cheap, never raises."""
        ...

    def read(self, path: Path) -> Cohort:
        """The cohort at `path`; files that cannot become cases are in `rejected`."""
        ...


# From the most to the least specific: the first that recognises its layout reads it.
_ALL: tuple[Reader, ...] = (table, nnunet, decathlon, folder, bids, dicom, flat)
READERS: dict[str, Reader] = {reader.NAME: reader for reader in _ALL}


def open_cohort(path: Path | str) -> Cohort:
    """The cohort at `path`, in whichever layout it lies there.

    Parameters
    ----------
    path
        A folder (BIDS, Medical Decathlon, nnU-Net raw, `images/` and `labels/`, DICOM, or plain NIfTI files)
        or a table (`.csv`, `.tsv`).

    Raises
    ------
    CohortError
        If `path` does not exist or holds no images; the sentence says what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise CohortError(f"the cohort {path} does not exist; name a folder of images or a .csv or .tsv table")
    for reader in READERS.values():
        if reader.detect(path):
            cohort = reader.read(path)
            if not cohort.cases and not cohort.rejected:
                raise CohortError(f"{path} looks like {reader.LOOKS_FOR}, but no image was found in it")
            return cohort
    if path.is_file():
        raise CohortError(f"the cohort {path} is a file, but neither a .csv nor a .tsv table; name a folder or a table")
    looked_for = "; ".join(reader.LOOKS_FOR for reader in READERS.values() if reader is not table)
    raise CohortError(f"no images were found in the folder {path}; looked for: {looked_for}")
