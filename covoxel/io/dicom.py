"""DICOM series as images; nothing about the patient is read."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from covoxel.io.dicom_folder import read_tree
from covoxel.io.dicom_header import SeriesKey, Slice
from covoxel.io.dicom_series import along, direction, series_slices
from covoxel.io.narrow import LARGEST
from covoxel.io.raw import ImageError, check_memory, check_voxels
from covoxel.io.regular import open_regular
from covoxel.memory_errors import is_out_of_memory
from covoxel.spatial import Grid, Image

sitk: Any = SimpleITK  # its own annotations are too few for strict checking

_POSITION_TOLERANCE = 0.02  # of the distance between slices
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ULP = 2.0**-23
_HOW_STORED = ("SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_PIXEL_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    *_HOW_STORED,
    "RescaleSlope",
    "RescaleIntercept",
    "PixelData",
)


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one acquisition.

    Parameters
    ----------
    uid
        SeriesInstanceUID.
    description
        SeriesDescription, or "".
    files
        Sorted along the normal of the slices where they have positions, otherwise by name.
    """

    uid: str
    description: str
    files: tuple[Path, ...]


def list_dicom_series(folder: Path) -> list[DicomSeries]:
    """List the DICOM series in `folder` and the folders below, by SeriesInstanceUID.

    Files that are not DICOM, damaged or without pixels are passed over: one bad file must not hide the others.
    `read_dicom_series` refuses damaged ones.

    Raises
    ------
    ImageError
        If `folder` is no folder.
    """
    series: dict[SeriesKey, list[Slice]] = {}
    for content in read_tree(Path(folder)).contents:
        for item in content.slices:
            series.setdefault(item.key, []).append(item)
    ordered = [(key, sorted(slices, key=along)) for key, slices in series.items()]
    return [
        DicomSeries(key.series, slices[0].description, tuple(item.file for item in slices))
        for key, slices in sorted(ordered, key=lambda pair: (pair[0].series, pair[0].study))
    ]


def dicom_series_files(folder: Path) -> tuple[Path, ...]:
    """Files of the series in a folder that `read_dicom_series` reads, in its order; ImageError as there."""
    return tuple(item.file for item in series_slices(Path(folder)))


def read_dicom_series(folder: Path, uid: str | None = None) -> Image:
    """Read one DICOM series as a 3-D image.

    Parameters
    ----------
    folder
        Holds the series, here or in folders below.
    uid
        SeriesInstanceUID of the series wanted; may be left out if there is one alone, see `series_slices`.

    Returns
    -------
    Image
        float32, the stored values rescaled as every slice states; MONOCHROME1 is a rule for display and inverts
        nothing. i along the rows of a slice, j along its columns, k from slice to slice along their normal. The
        positions of the first and the last slice place it, so that a tilted gantry gives a sheared grid. A
        RescaleIntercept so large that float32 would merge grey levels is left out.

    Raises
    ------
    ImageError
        If there is no such series or more than one, if slices are missing, damaged or doubled with different pixels,
        differ in size, orientation or spacing, have colour or many frames, cannot be decoded, or need more memory
        than is free.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, the mapping of pixels to the patient (LPS); C.7.6.3.1.2, the photometric interpretation.
    """
    folder = Path(folder)
    slices = series_slices(folder, uid)
    grid = _grid(folder, slices)
    check_memory(folder, 4 * grid.size + 24 * math.prod(grid.shape[:2]))
    return Image(torch.from_numpy(_voxels(folder, slices, grid.shape)), grid)


def _grid(folder: Path, slices: Sequence[Slice]) -> Grid:
    first = slices[0]
    shape = _common_shape(folder, slices)
    between_rows, between_columns = first.numbers("PixelSpacing")
    directions = direction(first)
    lps_from_voxel = np.eye(4)
    lps_from_voxel[:3, 0] = directions[0] * between_columns
    lps_from_voxel[:3, 1] = directions[1] * between_rows
    lps_from_voxel[:3, 2] = _step(folder, slices)
    lps_from_voxel[:3, 3] = first.numbers("ImagePositionPatient")
    try:
        return Grid(shape, _LPS_FROM_RAS @ lps_from_voxel)
    except ValueError as error:
        raise ImageError(f"{folder} does not place its slices in the world: {error}") from error


def _common_shape(folder: Path, slices: Sequence[Slice]) -> tuple[int, int, int]:
    first = slices[0]
    for item in slices:
        _check_pixels(item)
        if item.size != first.size:
            raise ImageError(
                f"{item.file} has {item.size[0]} x {item.size[1]} pixels; all slices of the series must "
                f"have {first.size[0]} x {first.size[1]}"
            )
        for tag, tolerance in (("ImageOrientationPatient", 1e-3), ("PixelSpacing", 1e-4)):
            values = item.numbers(tag)
            if np.abs(values - first.numbers(tag)).max() > tolerance:
                raise ImageError(f"{item.file} has the {tag} {values.tolist()}; a series must have one for all")
    shape = (*first.size, len(slices))
    check_voxels(folder, shape)
    return shape


def _check_pixels(item: Slice) -> None:
    if item.frames != 1 or item.samples != 1:
        raise ImageError(
            f"{item.file} has {item.frames} frames of {item.samples} colours; a slice must be one grey frame"
        )
    if not item.photometric.startswith("MONOCHROME"):
        raise ImageError(f"{item.file} is stored as {item.photometric}; a slice must be one grey frame")
    if item.has_lookup:
        raise ImageError(
            f"{item.file} rescales its values by a table (ModalityLUTSequence); they must be rescaled by a slope"
        )


def _step(folder: Path, slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Vector from one slice to the next, `(3,)` LPS mm; all steps must be equal."""
    normal = np.cross(*direction(slices[0]))
    if len(slices) == 1:
        thickness = slices[0].number("SpacingBetweenSlices", 0.0) or slices[0].number("SliceThickness", 0.0) or 1.0
        return np.asarray(normal * abs(thickness))
    positions = np.stack([item.numbers("ImagePositionPatient") for item in slices])
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(slices) - 1)
    distances = np.diff(positions @ normal)
    if distances.min() < 1e-3:
        raise ImageError(f"{folder} has two slices at one position; a series must have one slice at each")
    error = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * step).max()
    if error > _POSITION_TOLERANCE * np.linalg.norm(step):
        raise ImageError(
            f"{folder} has slices {distances.min():.4g} to {distances.max():.4g} mm apart, up to {error:.2g} mm beside "
            "the line; they must be equally spaced and none may be missing"
        )
    _check_complete(folder, slices, float(np.linalg.norm(step)))
    return step


def _check_complete(folder: Path, slices: Sequence[Slice], step_mm: float) -> None:
    """Refuse a series whose own headers state that slices are missing, though the rest is equally spaced."""
    first = slices[0]
    announced = first.number("NumberOfSlices", 0.0)  # of a PET volume
    if first.modality == "PT" and len(slices) < announced:
        raise ImageError(
            f"{folder} has {len(slices)} slices and its headers announce {announced:g}; none may be missing"
        )
    numbers = np.array([item.number("InstanceNumber", np.nan) for item in slices])
    jumps = np.abs(np.diff(numbers))
    apart = first.number("SpacingBetweenSlices", 0.0) or first.number("SliceThickness", 0.0)
    if not np.isfinite(jumps).all() or apart <= 0 or jumps.min() < 2:
        return
    times = step_mm / abs(apart)
    if jumps.min() == jumps.max() and abs(times - jumps[0]) < _POSITION_TOLERANCE * times:
        raise ImageError(
            f"{folder} has the slices number {numbers[0]:g}, {numbers[1]:g}, … {step_mm:.4g} mm apart, and its headers "
            f"state {abs(apart):.4g} mm from slice to slice; none may be missing"
        )


def _voxels(folder: Path, slices: Sequence[Slice], shape: tuple[int, ...]) -> NDArray[np.float32]:
    voxels = np.empty(shape, np.float32)
    offset = _offset(slices[0])
    largest = 0.0
    for k, item in enumerate(slices):
        pixels = _decoded(item, exact=offset != 0.0)
        values = pixels if offset == 0.0 else pixels.astype(np.float64) - offset
        largest = max(largest, float(np.abs(values).max()))
        with np.errstate(over="ignore"):
            voxels[..., k] = values.T
    if not largest <= LARGEST:
        raise ImageError(f"{folder} holds values up to {largest:g}; intensities must lie within ±{LARGEST:.2g}")
    return voxels


def _offset(first: Slice) -> float:
    """Intercept to leave out: one beside which float32 would merge neighbouring grey levels, otherwise 0."""
    slope, intercept = first.number("RescaleSlope", 1.0), first.number("RescaleIntercept", 0.0)
    return intercept if abs(intercept) * _ULP > abs(slope) else 0.0


def _decoded(item: Slice, *, exact: bool) -> NDArray[Any]:
    """Rescaled pixels of a slice, `(rows, columns)`: float32, or float64 if `exact`."""
    kind = sitk.sitkFloat64 if exact else sitk.sitkFloat32
    try:
        if item.photometric == "MONOCHROME2" and _has_preamble(item):
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(item.file), kind))
        else:
            pixels = _from_copy(item, kind)
        return np.asarray(pixels.reshape(item.size[::-1]))
    except (RuntimeError, ValueError) as error:
        if isinstance(error, ImageError) or is_out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[-1].strip()
        raise ImageError(f"{item.file} cannot be decoded, its pixels must be intact: {reason}") from error


def _has_preamble(item: Slice) -> bool:
    with open_regular(item.file) as stream:
        return stream.read(132)[128:] == b"DICM"


def _read_whole(item: Slice) -> pydicom.Dataset:
    try:
        whole = pydicom.dcmread(item.file, force=True)
        if "PixelData" not in whole:
            raise ImageError("the end of the file is missing")
    except Exception as error:  # pydicom has no common base for what damaged bytes may raise
        if is_out_of_memory(error):
            raise
        raise ImageError(f"{item.file} cannot be decoded, its pixels must be intact: {error}") from error
    return whole


def _from_copy(item: Slice, kind: Any) -> NDArray[Any]:
    """Pixels as ITK decodes them from a copy with a preamble that is MONOCHROME2: ITK would invert MONOCHROME1.

    The copy holds the pixels and how they are stored, and nothing of the patient.
    """
    whole, copy = _read_whole(item), pydicom.Dataset()
    for tag in _PIXEL_TAGS:
        if tag in whole:
            copy[tag] = whole[tag]
    copy.PhotometricInterpretation = "MONOCHROME2"
    copy.file_meta = FileMetaDataset()
    guessed = ImplicitVRLittleEndian if whole.original_encoding[0] else ExplicitVRLittleEndian
    copy.file_meta.TransferSyntaxUID = whole.file_meta.get("TransferSyntaxUID") or guessed
    with tempfile.TemporaryDirectory(prefix="covoxel-") as folder:
        file = Path(folder) / "slice.dcm"
        copy.save_as(file, enforce_file_format=True)
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(file), kind)))
