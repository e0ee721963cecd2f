"""Readers: one file per way a cohort lies on disk, recognised by its content."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from data_catalog.choice import Choice
from data_catalog.confine import check_texts, confined
from data_catalog.listing import is_file, is_folder, list_folder, relative, walk
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


def open_cohort(path: Path | str, choice: Choice = Choice(), aside: Sequence[Path] = ()) -> Cohort:  # noqa: B008 (frozen)
    """The cohort at `path`, in whichever layout it lies there.

    Parameters
    ----------
    path
        A folder (BIDS, Medical Decathlon, nnU-Net raw, `images/` and `labels/`, DICOM, or plain image files)
        or a table (`.csv`, `.tsv`).
    choice
        Which files of a BIDS cohort are taken, and whether files outside of the folder may be named.
    aside
        Files and folders that are in use for something else (true labels, for one): they are not counted as excluded.

    Raises
    ------
    CohortError
        If `path` does not exist, cannot be read or holds no images; the sentence says what was looked for.
    """
    path = Path(path)
    _check_readable(path)
    if not choice.trusted:
        check_texts(path)
    for reader in READERS.values():
        if reader.detect(path):
            cohort = _read(reader, path, choice)
            if not cohort.cases and not cohort.rejected:
                raise CohortError(f"{path} looks like {reader.LOOKS_FOR}, but no image was found in it")
            cohort = replace(
                cohort, rejected=tuple(item for item in cohort.rejected if not _is_aside(item.path, aside))
            )
            return cohort if choice.trusted else confined(cohort)
    if not is_folder(path):
        raise CohortError(f"the cohort {path} is a file, but neither a .csv nor a .tsv table; name a folder or a table")
    looked_for = "; ".join(reader.LOOKS_FOR for reader in READERS.values() if reader is not table)
    raise CohortError(f"no images were found in the folder {path}; looked for: {looked_for}{_deeper(path)}")


def _deeper(path: Path) -> str:
    """End of the sentence that names the first folder with images which no layout reads, if there is one."""
    found = next((folder for folder, listing in walk(path) if listing.candidates), None)
    return "" if found is None else f"; there are images in {relative(found, path)}/, where no layout has them"


def _check_readable(path: Path) -> None:
    """Refuse a path that does not exist or may not be read."""
    try:
        path.stat()
    except FileNotFoundError:
        raise CohortError(
            f"the cohort {path} does not exist; name a folder of images or a .csv or .tsv table"
        ) from None
    except (OSError, ValueError) as error:
        raise CohortError(f"the cohort {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    closed = "" if is_file(path) else list_folder(path).error
    if closed:
        raise CohortError(f"the cohort {path} cannot be read: {closed}")


def _read(reader: Reader, path: Path, choice: Choice) -> Cohort:
    """The cohort, read by the reader that has recognised it; BIDS and DICOM leave something to choose."""
    if reader is not dicom and choice.ids != "folder":
        raise CohortError(
            f"the setting cohort.ids names DICOM cases, but {path} looks like {reader.LOOKS_FOR}; leave it out"
        )
    if reader is bids:
        return bids.read(path, choice)
    if choice.chooses:
        raise CohortError(
            f"the settings cohort.image, label and run choose among the files of BIDS, but {path} looks like "
            f"{reader.LOOKS_FOR}; leave them out"
        )
    return dicom.read(path, choice.ids) if reader is dicom else reader.read(path)


def _is_aside(path: Path, aside: Sequence[Path]) -> bool:
    return any(path.absolute().is_relative_to(other.absolute()) for other in aside)
