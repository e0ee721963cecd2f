"""The files of a DICOM series: one list that is scanned, hashed and read."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from covoxel.io.dicom_folder import Content, read_tree
from covoxel.io.dicom_header import SeriesKey, Slice
from covoxel.io.raw import ImageError

_ONE_POSITION_MM = 1e-3


def series_slices(folder: Path, uid: str | None = None) -> tuple[Slice, ...]:
    """Slices of the series in a folder, along their normal, each once.

    Parameters
    ----------
    folder
        The series that lies directly in it counts, with all of its slices in folders below; if none does, the one
        series of the folders below. Localizers, screen shots, doses and segmentations count only where no scan lies
        beside them.
    uid
        SeriesInstanceUID of the series wanted, wherever in the tree it lies; None for the rule above.

    Returns
    -------
    tuple
        Copies of a slice (the same pixels under the same SOPInstanceUID, or at the same position) are left out: the
        one nearest to `folder` stays.

    Raises
    ------
    ImageError
        If there is no such series or more than one, a folder with slices of it holds a file that looks like a slice
        and cannot be read, or two different slices share an identity or a position.
    """
    folder = Path(folder)
    contents = read_tree(folder).contents
    wanted = _wanted(folder, contents, uid)
    kept: list[Slice] = []
    for content in contents:
        own = [item for item in content.slices if item.key in wanted]
        if content.broken and (own or content.folder == folder):
            raise ImageError(_first(content))
        kept += own
    return _distinct(folder, sorted(kept, key=lambda item: (len(item.file.parts), len(item.file.name), item.file)))


def scans(slices: Iterable[Slice]) -> dict[SeriesKey, list[Slice]]:
    """Slices of a folder by series; series that lie beside scans, such as localizers, are left out."""
    series: dict[SeriesKey, list[Slice]] = {}
    for item in slices:
        series.setdefault(item.key, []).append(item)
    whole = {key: items for key, items in series.items() if any(item.is_scan for item in items)}
    return dict(sorted((whole or series).items()))


def named(series: dict[SeriesKey, list[Slice]]) -> str:
    """Series in words: what each is called and how many slices it has."""
    words = [
        f"{items[0].description or items[0].modality or key.series}, {len(items)}" for key, items in series.items()
    ]
    return "; ".join(f"{word} {'slice' if word.endswith(' 1') else 'slices'}" for word in words)


def direction(item: Slice) -> NDArray[np.float64]:
    """Unit vectors along the rows and along the columns of a slice, `(2, 3)` LPS."""
    return item.numbers("ImageOrientationPatient").reshape(2, 3)


def along(item: Slice) -> float:
    """Position along the normal, mm; 0 for a slice that does not state it."""
    try:
        rows, columns = direction(item)
        return float(np.cross(rows, columns) @ item.numbers("ImagePositionPatient"))
    except ImageError:
        return 0.0


def _wanted(folder: Path, contents: Sequence[Content], uid: str | None) -> set[SeriesKey]:
    if uid is not None:
        keys = {item.key for content in contents for item in content.slices if item.key.series == uid}
        if not keys:
            count = len({item.key for content in contents for item in content.slices})
            raise ImageError(f"{folder} holds {count} DICOM series; the series {uid} must be there")
        return keys
    own = next((content for content in contents if content.folder == folder and content.slices), None)
    found = scans(own.slices if own else (item for content in contents for item in content.slices))
    if len(found) == 1:
        return set(found)
    broken = [content for content in contents if content.broken]
    if not found and broken:
        raise ImageError(_first(broken[0]))
    names = f" ({named(found)})" if found else ""
    raise ImageError(f"{folder} holds {len(found)} DICOM series{names}; one series must be there")


def _first(content: Content) -> str:
    more = len(content.broken) - 1
    return content.broken[0][1] + (f" (and {more} more such {'file' if more == 1 else 'files'})" if more else "")


def _distinct(folder: Path, slices: Sequence[Slice]) -> tuple[Slice, ...]:
    """Slices in order along the normal, without copies; the first of equal ones stays."""
    by_identity: dict[str, Slice] = {}
    for item in slices:
        first = by_identity.setdefault(item.identity, item)
        if first is not item and _pixels(first) != _pixels(item):
            raise ImageError(
                f"{folder} has two files of one slice, {_shown(folder, first)} and {_shown(folder, item)}, with "
                "different pixels; a slice must be there once"
            )
    ordered = sorted(by_identity.values(), key=along)
    kept: list[Slice] = []
    for item in ordered:
        if kept and _at_one_position(kept[-1], item):
            _check_copy(folder, kept[-1], item, ordered)
        else:
            kept.append(item)
    return tuple(kept)


def _at_one_position(first: Slice, second: Slice) -> bool:
    try:
        apart = first.numbers("ImagePositionPatient") - second.numbers("ImagePositionPatient")
        turned = np.abs(direction(first) - direction(second)).max()
    except ImageError:
        return False
    return bool(np.abs(apart).max() < _ONE_POSITION_MM and turned < _ONE_POSITION_MM)


def _check_copy(folder: Path, first: Slice, second: Slice, ordered: Sequence[Slice]) -> None:
    if _pixels(first) == _pixels(second):
        return
    places = 1 + sum(not _at_one_position(a, b) for a, b in zip(ordered, ordered[1:], strict=False))
    each, rest = divmod(len(ordered), places)
    why = f" ({each} at each position: several echoes, phases or time points)" if not rest and places > 1 else ""
    raise ImageError(
        f"{folder} has two slices at one position, {_shown(folder, first)} and {_shown(folder, second)}, with "
        f"different pixels{why}; a series must have one slice at each"
    )


def _pixels(item: Slice) -> str:
    """Hash of the pixels of a slice and of how they are to be rescaled."""
    try:
        content = pydicom.dcmread(item.file, force=True)
        digest = hashlib.sha256(bytes(content.PixelData))
    except Exception as error:  # pydicom has no common base for what damaged bytes may raise
        raise ImageError(f"{item.file} cannot be decoded, its pixels must be intact") from error
    rescale = (item.number("RescaleSlope", 1.0), item.number("RescaleIntercept", 0.0), item.photometric, item.size)
    digest.update(repr(rescale).encode())
    return digest.hexdigest()


def _shown(folder: Path, item: Slice) -> str:
    return item.file.relative_to(folder).as_posix() if item.file.is_relative_to(folder) else item.file.name
