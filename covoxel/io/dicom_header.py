"""The header of one DICOM file: one slice, something that is no slice, or a damaged file; no patient data are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from covoxel.io.raw import ImageError
from covoxel.io.regular import open_regular

_NUMBERS = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "InstanceNumber": 1,
    "SpacingBetweenSlices": 1,
    "SliceThickness": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
    "NumberOfSlices": 1,
}
_TAGS = [
    *_NUMBERS,
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "BitsAllocated",
    "ModalityLUTSequence",
]
_MAGIC_AT = 128
_BESIDE_A_SCAN = ("Secondary Capture", "Segmentation", "RT Dose", "Presentation State", "Screen")
_UNCHANGED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # voxels as they are, no compression


class NotDicomError(ValueError):
    """A file is not DICOM; the message is the end of a sentence about it."""


class SeriesKey(NamedTuple):
    """What the slices of one series have in common."""

    study: str
    series: str


@dataclass(frozen=True, slots=True)
class Slice:
    """Header of a slice.

    Parameters
    ----------
    file
        The file.
    key
        Study and series.
    instance
        SOPInstanceUID, or "".
    description, modality
        Of the series, or "".
    is_scan
        False for a localizer (scout), a screen shot, a dose or a segmentation: they lie beside scans.
    size
        Columns and rows.
    frames, samples, photometric
        NumberOfFrames, SamplesPerPixel, PhotometricInterpretation.
    has_lookup
        Whether its values need a table (ModalityLUTSequence) to mean anything.
    tags
        Tags that hold numbers, as far as they do; what else was found there is text.
    """

    file: Path
    key: SeriesKey
    instance: str
    description: str
    modality: str
    is_scan: bool
    size: tuple[int, int]
    frames: int
    samples: int
    photometric: str
    has_lookup: bool
    tags: tuple[tuple[float, ...] | str | None, ...]

    @property
    def identity(self) -> str:
        """SOPInstanceUID, or the file's path where there is none."""
        return self.instance or str(self.file)

    def numbers(self, tag: str) -> NDArray[np.float64]:
        """Give the numbers of a tag; ImageError if there are others than must be."""
        values, count = self.tags[_PLACES[tag]], _NUMBERS[tag]
        if not isinstance(values, tuple):
            raise ImageError(f"{self.file} has the {tag} {values}; a slice must have {count} finite numbers there")
        return np.asarray(values)

    def number(self, tag: str, otherwise: float) -> float:
        """Give the number of a tag, or another if there is none."""
        values = self.tags[_PLACES[tag]]
        return values[0] if isinstance(values, tuple) else otherwise


_PLACES = {tag: place for place, tag in enumerate(_NUMBERS)}


def is_dicom(path: Path) -> bool:
    """Whether a regular file begins as a DICOM file does, with or without its preamble; False if it cannot be read."""
    try:
        with open_regular(path) as file:
            return _begins_well(file.read(_MAGIC_AT + 4))
    except OSError:
        return False


def read_slice(file: Path) -> Slice | None:
    """Read the header of a DICOM file, every tag decoded; None for a DICOM file without pixels.

    Raises
    ------
    NotDicomError
        If it is no DICOM file.
    ImageError
        If it is a DICOM file and damaged.
    OSError
        If it cannot be opened, or is no regular file.
    """
    with open_regular(file) as stream:
        block = stream.read(_MAGIC_AT + 4)
        if not _begins_well(block):
            raise NotDicomError("is no DICOM file" if block else "is empty")
        stream.seek(0)
        try:
            with disable_value_validation():  # it warns of values that matter to nobody
                return _slice(file, pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True))
        except InvalidDicomError as error:
            raise NotDicomError("is no DICOM file") from error
        except ImageError:
            raise
        except Exception as error:  # pydicom has no common base for what damaged bytes may raise
            reason = " ".join(str(error).split())[:200]
            raise ImageError(f"{file} is a damaged DICOM file, it must be readable: {reason}") from error


def _begins_well(block: bytes) -> bool:
    """Whether bytes begin a DICOM file: its magic word, or the first tag of a file without preamble."""
    if block[_MAGIC_AT:] == b"DICM":
        return True
    group, element, kind = block[:2], block[2:4], block[4:6]
    if group not in (b"\x02\0", b"\x08\0") or len(block) < 12:
        return False
    explicit = kind in (b"UL", b"CS", b"UI", b"OB", b"SH", b"DA", b"TM")
    implicit = block[6:8] == b"\0\0" and int.from_bytes(block[4:6], "little") <= 64
    return int.from_bytes(element, "little") <= 0x60 and (explicit or implicit)


def _slice(file: Path, header: pydicom.Dataset) -> Slice | None:
    list(header)  # decodes every tag
    kind = UID(str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""))
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if rows < 1 or columns < 1:
        if kind.name.endswith("Image Storage") or not kind:
            raise ImageError(f"{file} is a damaged DICOM file, an image must have rows and columns")
        return None
    frames, samples = int(header.get("NumberOfFrames") or 1), int(header.get("SamplesPerPixel") or 1)
    is_compressed = str(header.file_meta.get("TransferSyntaxUID") or _UNCHANGED[0]) not in _UNCHANGED
    bits = int(header.get("BitsAllocated") or 8)
    wanted, on_disk = rows * columns * frames * samples * bits // 8, file.stat().st_size
    if not is_compressed and on_disk < wanted:
        raise ImageError(f"{file} is truncated: its {on_disk} bytes are fewer than the {wanted} of its pixels")
    return Slice(
        file=file,
        key=SeriesKey(str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))),
        instance=str(header.get("SOPInstanceUID") or ""),
        description=str(header.get("SeriesDescription") or ""),
        modality=str(header.get("Modality") or ""),
        is_scan=not _is_beside(kind, header),
        size=(columns, rows),
        frames=frames,
        samples=samples,
        photometric=str(header.get("PhotometricInterpretation") or "MONOCHROME2"),
        has_lookup=bool(header.get("ModalityLUTSequence")),
        tags=tuple(_numbers(header.get(tag), count) for tag, count in _NUMBERS.items()),
    )


def _is_beside(kind: UID, header: pydicom.Dataset) -> bool:
    """Whether an image is a localizer, a screen shot, or derived for another purpose than to be looked at as a scan."""
    types = header.get("ImageType") or ()
    words = {str(word).upper() for word in ([types] if isinstance(types, str) else types)}
    return bool(words & {"LOCALIZER", "SCREEN SAVE"}) or any(name in kind.name for name in _BESIDE_A_SCAN)


def _numbers(value: Any, count: int) -> tuple[float, ...] | str | None:
    """The `count` finite numbers of a tag; text if others are there, None if nothing is."""
    if value is None or value == "":
        return None
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        return str(value)[:80]
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        return str(value)[:80]
    return tuple(numbers.tolist())
