"""NIfTI images and label maps, in and out; a damaged or foreign file is refused in one sentence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from covoxel.io.nifti_file import HeaderFields, ImageError, read_fields, read_voxels, write_nifti
from covoxel.spatial import Grid, Image

ImageDtype = Literal["float32", "float64", "uint8", "int16", "uint16", "int32"]

_LABEL_DTYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64")
_INTEGER_TOLERANCE = 1e-3
_LARGEST_EXACT = 2**53


@dataclass(frozen=True)
class Header:
    """What is known of an image before its voxels are read.

    Parameters
    ----------
    shape
        Sides of the image; trailing axes of one voxel after the third are dropped.
    spacing_mm
        Distance between neighbouring voxel centres along the first (up to three) axes.
    grid
        Placement in the world, or None if the file has more than three axes.
    dtype
        Type of the stored voxels, as numpy names it.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    grid: Grid | None
    dtype: str


def read_header(path: Path) -> Header:
    """Read the header of a NIfTI file; no voxel is read.

    Raises
    ------
    ImageError
        As for `read_image`, but a file of more than three axes is not refused.
    """
    fields = read_fields(Path(path))
    grid = None if len(fields.shape) > 3 else _grid(fields, fields.shape)
    spacing = fields.spacing_mm if grid is None else grid.spacing_mm
    return Header(fields.shape, tuple(float(s) for s in spacing), grid, fields.dtype.name)


def read_image(path: Path) -> Image:
    """Read intensities from a NIfTI file.

    Parameters
    ----------
    path
        `.nii` or `.nii.gz`, NIfTI-1 or NIfTI-2.

    Returns
    -------
    Image
        float32, the file's slope and intercept applied, on the file's own grid. 2-D only if the file says it
        has two axes; one slice of a 3-D file stays 3-D. Lengths in metres or micrometres become mm. Voxels may
        be NaN: that is for the caller to judge.

    Raises
    ------
    ImageError
        If the file is missing, truncated, damaged, no NIfTI file, not of real numbers, 4-D, larger than 2³¹ voxels,
        or does not say where its voxels are (spacing of 0, not finite, singular).
    """
    fields = read_fields(Path(path))
    grid = _volume_grid(fields)
    raw = read_voxels(fields)
    return Image(torch.from_numpy(_scaled(raw, fields, np.float32)), grid)


def read_labels(path: Path) -> Image:
    """Read a label map from a NIfTI file.

    Returns
    -------
    Image
        int64 on the file's own grid.

    Raises
    ------
    ImageError
        As for `read_image`, and if a value is not a whole number.
    """
    fields = read_fields(Path(path))
    grid = _volume_grid(fields)
    raw = read_voxels(fields)
    if raw.dtype.kind in "iu" and (fields.slope, fields.intercept) == (1.0, 0.0):
        return Image(torch.from_numpy(np.ascontiguousarray(raw.astype(np.int64))), grid)
    values = _scaled(raw, fields, np.float64)
    rounded = np.round(values)
    whole = (np.abs(values - rounded) <= _INTEGER_TOLERANCE) & (np.abs(rounded) < _LARGEST_EXACT)
    if not whole.all():
        wrong = values[~whole][0]
        raise ImageError(f"{fields.path} holds the value {wrong:.6g}; a label map must hold whole numbers only")
    return Image(torch.from_numpy(rounded.astype(np.int64)), grid)


def write_image(path: Path, image: Image, dtype: ImageDtype = "float32") -> None:
    """Write intensities to a NIfTI file, atomically; the same image gives the same bytes.

    Parameters
    ----------
    path
        `.nii` or `.nii.gz`.
    image
        2-D or 3-D, any real type.
    dtype
        Type in the file. Whole-number types are rounded to, not scaled.

    Raises
    ------
    ImageError
        If a value does not fit `dtype`, or the suffix is another one.
    """
    if dtype not in get_args(ImageDtype):
        raise ValueError(f"dtype must be one of {', '.join(get_args(ImageDtype))}, got {dtype!r}")
    values = image.data.detach().cpu().numpy()
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        values = np.round(values)
        _check_fits(Path(path), values, kind)
    write_nifti(Path(path), values.astype(kind), image.grid)


def write_labels(path: Path, image: Image) -> None:
    """Write a label map to a NIfTI file, atomically, in the smallest whole-number type that holds its values.

    Parameters
    ----------
    path
        `.nii` or `.nii.gz`.
    image
        2-D or 3-D, of an integer or boolean type.

    Raises
    ------
    ImageError
        If the image is not of whole numbers, or the suffix is another one.
    """
    values = image.data.detach().cpu().numpy()
    if values.dtype.kind not in "iub":
        raise ImageError(f"{path} must be written from whole numbers, got {values.dtype}")
    low, high = int(values.min()), int(values.max())
    names = (name for name in _LABEL_DTYPES if np.iinfo(name).min <= low and high <= np.iinfo(name).max)
    write_nifti(Path(path), values.astype(next(names)), image.grid)


def vector_grid(fields: HeaderFields) -> Grid:
    """Grid of an ITK vector image, stored as `(i, j, k, 1, 3)` or `(i, j, 1, 1, 2)`; ImageError for another file."""
    shape = fields.shape
    if len(shape) != 5 or shape[3] != 1 or (shape[4] != 3 and (shape[2], shape[4]) != (1, 2)):
        raise ImageError(
            f"{fields.path} has the shape {shape}; a displacement must be (i, j, k, 1, 3) or (i, j, 1, 1, 2)"
        )
    return _grid(fields, shape[: shape[4]])


def _volume_grid(fields: HeaderFields) -> Grid:
    if len(fields.shape) > 3:
        raise ImageError(
            f"{fields.path} has the shape {fields.shape}; an image must be one 2-D or 3-D volume, not a series of them"
        )
    return _grid(fields, fields.shape)


def _grid(fields: HeaderFields, shape: tuple[int, ...]) -> Grid:
    n = len(shape)
    matrix = fields.ras_from_voxel
    if n == 2:
        if np.abs(matrix[2, :2]).max() > 1e-4 * np.abs(matrix[:2, :2]).max():
            raise ImageError(
                f"{fields.path} is a 2-D image that leaves the axial plane ({matrix[2, :2].tolist()} mm along S a "
                "voxel); such a slice must be stored as a 3-D image of one slice"
            )
        matrix = matrix[np.ix_([0, 1, 3], [0, 1, 3])]
    try:
        return Grid(shape, matrix)
    except ValueError as error:
        raise ImageError(f"{fields.path} does not place its voxels in the world: {error}") from error


def _scaled(raw: NDArray[np.generic], fields: HeaderFields, dtype: type[np.floating]) -> NDArray[np.floating]:
    """`raw * slope + intercept` computed in float64, slice by slice to bound memory, in C order."""
    if (fields.slope, fields.intercept) == (1.0, 0.0):
        return np.ascontiguousarray(raw.astype(dtype))
    scaled = np.empty(raw.shape, dtype, order="F")
    for k in range(raw.shape[-1]):
        scaled[..., k] = raw[..., k].astype(np.float64) * fields.slope + fields.intercept
    return np.ascontiguousarray(scaled)


def _check_fits(path: Path, values: NDArray[np.generic], kind: np.dtype[np.generic]) -> None:
    low, high = values.min(), values.max()
    limits = np.iinfo(kind.name)
    if not (limits.min <= low and high <= limits.max):
        raise ImageError(f"{path} must hold values from {limits.min} to {limits.max} as {kind}, got {low} to {high}")
