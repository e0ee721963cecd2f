"""DICOM series as images; nothing about the patient is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
import torch
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from covoxel.io.nifti_file import MAX_VOXELS, ImageError
from covoxel.memory_errors import is_out_of_memory
from covoxel.spatial import Grid, Image

sitk: Any = SimpleITK  # its own annotations are too few for strict checking

_TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "SpacingBetweenSlices",
    "SliceThickness",
]
_POSITION_TOLERANCE = 0.02  # of the distance between slices
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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


@dataclass(frozen=True)
class _Slice:
    file: Path
    header: pydicom.Dataset

    def numbers(self, tag: str, count: int) -> NDArray[np.float64]:
        values = self.header.get(tag)
        try:
            numbers = np.atleast_1d(np.asarray([] if values is None else values, dtype=np.float64))
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise ImageError(f"{self.file} has the {tag} {values}; a slice must have {count} finite numbers there")
        return numbers


def list_dicom_series(folder: Path) -> list[DicomSeries]:
    """List the DICOM series in `folder` and the folders below, by SeriesInstanceUID.

    Files that are not DICOM, damaged or without pixels are passed over: one bad file must not hide the others.
    `read_dicom_series` refuses damaged ones.

    Raises
    ------
    ImageError
        If `folder` is no folder.
    """
    return [
        DicomSeries(uid, str(slices[0].header.get("SeriesDescription", "")), tuple(s.file for s in slices))
        for uid, slices in _series(Path(folder), pass_over_damaged=True).items()
    ]


def read_dicom_series(folder: Path, uid: str | None = None) -> Image:
    """Read one DICOM series as a 3-D image.

    Parameters
    ----------
    folder
        Holds the series, here or in folders below.
    uid
        SeriesInstanceUID of the series wanted; may be left out if there is one alone.

    Returns
    -------
    Image
        float32, rescaled as every slice says; i along the rows of a slice, j along its columns, k from slice to slice
        along their normal. The positions of the first and the last slice place it, so that a tilted gantry gives a
        sheared grid.

    Raises
    ------
    ImageError
        If there is no such series or more than one, if slices are missing or doubled, differ in size, orientation or
        spacing, have colour or many frames, or cannot be decoded.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, the mapping of pixels to the patient (LPS).
    """
    folder = Path(folder)
    found = _series(folder)
    slices = found.get(uid or "") if uid or len(found) != 1 else next(iter(found.values()))
    if slices is None:
        wanted = f"the series {uid}" if uid else "one series"
        raise ImageError(f"{folder} holds {len(found)} DICOM series; {wanted} must be there")
    grid = _grid(folder, slices)
    return Image(torch.from_numpy(_voxels(slices, grid.shape)), grid)


def _series(folder: Path, *, pass_over_damaged: bool = False) -> dict[str, list[_Slice]]:
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder; a DICOM series must be in one")
    found: dict[str, list[_Slice]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = _header(file)
        except ImageError:
            if not pass_over_damaged:
                raise
            continue
        if header is not None:
            found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(_Slice(file, header))
    return {uid: sorted(slices, key=_along) for uid, slices in sorted(found.items())}


def _header(file: Path) -> pydicom.Dataset | None:
    """Read the tags wanted, all decoded; None for a file that is no DICOM image."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        list(header)
        kind = header.file_meta.get("MediaStorageSOPClassUID")
    except InvalidDicomError:
        return None
    except Exception as error:  # pydicom has no common base for what damaged bytes may raise
        if is_out_of_memory(error):
            raise
        raise ImageError(f"{file} is a damaged DICOM file, it must be readable: {error}") from error
    if header.get("Rows") and header.get("Columns"):
        return header
    if kind is not None and kind.name.endswith("Image Storage"):
        raise ImageError(f"{file} is a damaged DICOM file, an image must have rows and columns")
    return None


def _along(item: _Slice) -> float:
    """Position along the normal, mm; 0 (the order of names) for a slice that does not say."""
    try:
        normal = _normal(_directions(item))
        return float(normal @ item.numbers("ImagePositionPatient", 3))
    except ImageError:
        return 0.0


def _directions(item: _Slice) -> NDArray[np.float64]:
    """Give the unit vectors along the rows and along the columns of a slice, `(2, 3)` LPS."""
    return item.numbers("ImageOrientationPatient", 6).reshape(2, 3)


def _normal(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cross(directions[0], directions[1]))


def _grid(folder: Path, slices: Sequence[_Slice]) -> Grid:
    first = slices[0]
    shape = _common_shape(folder, slices)
    between_rows, between_columns = first.numbers("PixelSpacing", 2)
    directions = _directions(first)
    lps_from_voxel = np.eye(4)
    lps_from_voxel[:3, 0] = directions[0] * between_columns
    lps_from_voxel[:3, 1] = directions[1] * between_rows
    lps_from_voxel[:3, 2] = _step(folder, slices)
    lps_from_voxel[:3, 3] = first.numbers("ImagePositionPatient", 3)
    try:
        return Grid(shape, _LPS_FROM_RAS @ lps_from_voxel)
    except ValueError as error:
        raise ImageError(f"{folder} does not place its slices in the world: {error}") from error


def _common_shape(folder: Path, slices: Sequence[_Slice]) -> tuple[int, int, int]:
    first = slices[0]
    for item in slices:
        frames, samples = int(item.header.get("NumberOfFrames") or 1), int(item.header.get("SamplesPerPixel") or 1)
        if frames != 1 or samples != 1:
            raise ImageError(f"{item.file} has {frames} frames of {samples} colours; a slice must be one grey frame")
        if (item.header.Rows, item.header.Columns) != (first.header.Rows, first.header.Columns):
            raise ImageError(
                f"{item.file} has {item.header.Columns} x {item.header.Rows} pixels; all slices of the series must "
                f"have {first.header.Columns} x {first.header.Rows}"
            )
        for tag, count, tolerance in (("ImageOrientationPatient", 6, 1e-3), ("PixelSpacing", 2, 1e-4)):
            if np.abs(item.numbers(tag, count) - first.numbers(tag, count)).max() > tolerance:
                raise ImageError(f"{item.file} has the {tag} {item.header[tag].value}; a series must have one for all")
    shape = (int(first.header.Columns), int(first.header.Rows), len(slices))
    if shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        raise ImageError(f"{folder} has the shape {shape}; an image must have at most {MAX_VOXELS} voxels")
    return shape


def _step(folder: Path, slices: Sequence[_Slice]) -> NDArray[np.float64]:
    """Vector from one slice to the next, `(3,)` LPS mm; all steps must be equal."""
    normal = _normal(_directions(slices[0]))
    if len(slices) == 1:
        header = slices[0].header
        thickness = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0)
        return normal * abs(thickness)
    positions = np.stack([item.numbers("ImagePositionPatient", 3) for item in slices])
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(slices) - 1)
    along = np.diff(positions @ normal)
    if along.min() < 1e-3:
        raise ImageError(f"{folder} has two slices at one position; a series must have one slice at each")
    error = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * step).max()
    if error > _POSITION_TOLERANCE * np.linalg.norm(step):
        raise ImageError(
            f"{folder} has slices {along.min():.4g} to {along.max():.4g} mm apart, up to {error:.2g} mm beside the "
            "line; they must be equally spaced and none may be missing"
        )
    return step


def _voxels(slices: Sequence[_Slice], shape: tuple[int, ...]) -> NDArray[np.float32]:
    voxels = np.empty(shape, np.float32)
    for k, item in enumerate(slices):
        try:
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(item.file), sitk.sitkFloat32))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[-1].strip()
            raise ImageError(f"{item.file} cannot be decoded, its pixels must be intact: {reason}") from error
        voxels[..., k] = pixels.reshape(pixels.shape[-2:]).T
    return voxels
