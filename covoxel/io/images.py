"""Images and label maps read from files of every format that is read; a bad file is refused in one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from covoxel.io.formats import READ_SUFFIXES, image_suffix
from covoxel.io.mgh import read_mgh_fields
from covoxel.io.narrow import is_safe, narrowed, scaled
from covoxel.io.nifti_header import read_nifti_fields
from covoxel.io.raw import SLAB_BYTES, HeaderFields, ImageError, check_memory, read_stored, slabs
from covoxel.spatial import Grid, Image

_INTEGER_TOLERANCE = 1e-3
_LARGEST_EXACT = 2**53
_BY_ITK = (".nrrd", ".mha")


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
    """Read the header of an image file; no voxel is read.

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
    """Read intensities from an image file.

    Parameters
    ----------
    path
        NIfTI-1 or NIfTI-2 (`.nii`, `.nii.gz`, or the `.hdr` of a pair), FreeSurfer (`.mgz`, `.mgh`), NRRD (`.nrrd`)
        or MetaImage (`.mha`), upper or lower case.

    Returns
    -------
    Image
        float32, the file's slope and intercept applied, on the file's own grid. Values that float32 would merge have
        an offset subtracted, see `covoxel.io.narrow`. 2-D only if the file has two axes; one slice of a 3-D file
        stays 3-D. Lengths in metres or micrometres become mm. Voxels may be NaN: that is for the caller to refuse.

    Raises
    ------
    ImageError
        If the file is missing, truncated, damaged, of another format, not of real numbers, 4-D, larger than 2³¹ voxels
        or than the memory at hand, does not state where its voxels are (spacing of 0, not finite, singular), states
        it twice and differently, or holds values that float32 cannot hold.
    """
    fields = read_fields(Path(path))
    grid = _volume_grid(fields)
    streamed = not _is_itk(fields) and is_safe(fields.dtype, fields.slope, fields.intercept)
    check_memory(fields.path, fields.count * 4 + _stored_bytes(fields, streamed))
    if not streamed:
        return Image(torch.from_numpy(narrowed(fields.path, _stored(fields), fields.slope, fields.intercept)), grid)
    values = np.empty(fields.shape, np.float32)
    for where, slab in slabs(fields):
        values[..., where] = scaled(slab, fields.slope, fields.intercept)
    return Image(torch.from_numpy(values), grid)


def read_labels(path: Path) -> Image:
    """Read a label map from an image file.

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
    check_memory(fields.path, fields.count * 8 + _stored_bytes(fields, not _is_itk(fields)))
    labels = np.empty(fields.shape, np.int64)
    broken: ImageError | None = None
    for where, slab in _pieces(fields):  # to the end: damaged bytes are found there, and explain a wrong value
        try:
            labels[..., where] = _whole(fields, slab)
        except ImageError as error:
            broken = broken or error
    if broken is not None:
        raise broken
    return Image(torch.from_numpy(labels), grid)


def read_fields(path: Path) -> HeaderFields:
    """Read and check the header of an image file of any format.

    Raises
    ------
    ImageError
        If the header is not sound, or the format is not read.
    """
    suffix = image_suffix(path)
    if suffix in _BY_ITK:
        from covoxel.io.itk_image import read_itk_fields  # loads SimpleITK

        return read_itk_fields(path)
    if suffix in (".mgz", ".mgh"):
        return read_mgh_fields(path)
    if suffix in READ_SUFFIXES:
        return read_nifti_fields(path)
    raise ImageError(f"{path} {_why_not(path, suffix)}; an image must end in {', '.join(READ_SUFFIXES)}")


def _why_not(path: Path, suffix: str) -> str:
    if suffix == ".img":
        return "holds the voxels of a pair, which is named by its .hdr"
    return f"has the suffix {suffix or path.suffix!r}, a format that is not read"


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


def _is_itk(fields: HeaderFields) -> bool:
    return image_suffix(fields.path) in _BY_ITK


def _stored(fields: HeaderFields) -> NDArray[Any]:
    if not _is_itk(fields):
        return read_stored(fields)
    from covoxel.io.itk_image import read_itk_voxels

    return read_itk_voxels(fields)


def _pieces(fields: HeaderFields) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Slabs of the stored voxels, from the file where the format allows it."""
    if not _is_itk(fields):
        yield from slabs(fields)
        return
    voxels, length = _stored(fields), fields.shape[-1]
    step = max(1, SLAB_BYTES * length // max(1, voxels.nbytes))
    for start in range(0, length, step):
        yield slice(start, start + step), voxels[..., start : start + step]


def _stored_bytes(fields: HeaderFields, streamed: bool) -> int:
    """Memory for the stored voxels beside the result: slabs of them, or all."""
    whole = fields.count * fields.dtype.itemsize
    if _is_itk(fields):
        return 2 * whole  # ITK's own, and what its reader decompresses from
    return min(whole, SLAB_BYTES) * 4 if streamed else whole + SLAB_BYTES


def _whole(fields: HeaderFields, slab: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers of a slab, scaled."""
    if slab.dtype.kind in "iu" and not fields.is_scaled:
        if slab.dtype.itemsize == 8 and slab.dtype.kind == "u" and slab.max() >= 2**63:
            raise ImageError(f"{fields.path} holds the value {slab.max()}; a label must be below 2^63")
        return slab.astype(np.int64)
    values = scaled(slab, fields.slope, fields.intercept).astype(np.float64)
    rounded = np.round(values)
    whole = (np.abs(values - rounded) <= _INTEGER_TOLERANCE) & (np.abs(rounded) < _LARGEST_EXACT)
    if not whole.all():
        wrong = values[~whole][0]
        raise ImageError(f"{fields.path} holds the value {wrong:.6g}; a label map must hold whole numbers only")
    return rounded.astype(np.int64)
