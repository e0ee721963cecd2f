"""The NIfTI file itself: header fields, voxel bytes, and what may be wrong with them."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from covoxel.io.atomic import atomic_path
from covoxel.spatial import Grid

MAX_VOXELS = 2**31
_SUFFIXES = (".nii", ".nii.gz")
_MAGICS: dict[bytes, tuple[Any, int]] = {b"n+1\0": (nib.Nifti1Header, 348), b"n+2\0": (nib.Nifti2Header, 540)}
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
_GZIP_LEVEL = 3
_MAX_GZIP_RATIO = 1040  # deflate cannot shrink further
_MAX_TRAILER = 2**20
_DTYPES = frozenset(np.dtype(t).name for t in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"))


class ImageError(ValueError):
    """An image file cannot be used; the message is one sentence naming the file, the value and the rule."""


@dataclass(frozen=True)
class HeaderFields:
    """Checked fields of a NIfTI header.

    Parameters
    ----------
    path
        The file.
    shape
        Sides; trailing axes of one voxel after the third are dropped.
    spacing_mm
        Along the first axes, up to three, as `pixdim` says.
    ras_from_voxel
        `(4, 4)`, mm.
    dtype
        Of the stored voxels, with their byte order.
    offset
        Where the voxels begin, in bytes.
    slope, intercept
        Value = stored * slope + intercept.
    """

    path: Path
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    ras_from_voxel: NDArray[np.float64]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float


def read_fields(path: Path) -> HeaderFields:
    """Read and check the header of `path`.

    Raises
    ------
    ImageError
        If the file is not a sound NIfTI file of real numbers.
    """
    with _opened(path) as file:
        header = _header(path, file.read(544))
    shape = _shape(path, header)
    scale_mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, 1.0)
    spacing = _spacing(path, header, len(shape)) * scale_mm
    matrix = _matrix(path, header)
    matrix[:3] *= scale_mm
    slope, intercept = _scaling(path, header)
    return HeaderFields(
        path, shape, tuple(spacing.tolist()), matrix, _dtype(path, header), _offset(path, header), slope, intercept
    )


def read_voxels(fields: HeaderFields) -> NDArray[np.generic]:
    """Read the voxels of a file, `fields.shape`, unscaled; the file is read to its end so that its checksum counts.

    Raises
    ------
    ImageError
        If the file is truncated or damaged.
    """
    path = fields.path
    count = int(np.prod(fields.shape))
    wanted = fields.offset + count * fields.dtype.itemsize
    on_disk = path.stat().st_size
    if on_disk * (_MAX_GZIP_RATIO if path.suffix.lower() == ".gz" else 1) < wanted:
        raise _truncated(path, f"its {on_disk} bytes", wanted)
    with _opened(path) as file:
        content = file.read(wanted)
        if len(content) < wanted:
            raise _truncated(path, f"the {len(content)} bytes in it", wanted)
        file.read(_MAX_TRAILER)
    return np.frombuffer(content, fields.dtype, count, fields.offset).reshape(fields.shape, order="F")


def write_nifti(path: Path, values: NDArray[np.generic], grid: Grid, *, vector: bool = False) -> None:
    """Write `values` on `grid` to `path`, atomically; the same values give the same bytes.

    Parameters
    ----------
    path
        `.nii` or `.nii.gz`.
    values
        `grid.shape`, or `(*grid.shape, n)` if `vector`.
    grid
        Written as sform and as qform, code 1; a sheared grid as sform alone.
    vector
        Write a field of vectors as ITK does: five axes, intent 1007.
    """
    check_suffix(path)
    n = grid.ndim
    shape = (*grid.shape, *[1] * (4 - n), values.shape[-1]) if vector else values.shape
    new_header: Any = nib.Nifti2Header if max(shape) > 32767 else nib.Nifti1Header
    header = new_header()
    header.set_data_shape(shape)
    header.set_data_dtype(values.dtype)
    if vector:
        header["intent_code"] = 1007
    header.set_xyzt_units("mm")
    matrix = np.eye(4)
    matrix[:n, :n] = grid.ras_from_voxel[:n, :n]
    matrix[:n, 3] = grid.ras_from_voxel[:n, n]
    header.set_qform(matrix, 0 if _is_sheared(matrix) else 1)
    header.set_sform(matrix, 1)
    header["pixdim"][1 : n + 1] = grid.spacing_mm
    header["vox_offset"] = header.sizeof_hdr + 4
    header["scl_slope"], header["scl_inter"] = 1, 0
    content = header.binaryblock + bytes(4)
    with atomic_path(path) as temporary, temporary.open("wb") as file, _compressed(path, file) as out:
        out.write(content)
        for k in range(0, values.shape[-1]):
            out.write(values[..., k].tobytes(order="F"))


def check_suffix(path: Path) -> None:
    """Raise ImageError unless `path` ends in `.nii` or `.nii.gz`."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise ImageError(f"{path} has the suffix {path.suffix!r}; an image must end in .nii or .nii.gz")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Bytes of a file, decompressed; whatever fails becomes an ImageError."""
    check_suffix(path)
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rb") as file:
            yield cast(IO[bytes], file)
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; an image must be a file") from error
    except EOFError as error:
        raise ImageError(f"{path} is truncated; a .gz file must be complete") from error
    except (OSError, zlib.error) as error:
        raise ImageError(f"{path} cannot be read, the file must be intact: {error}") from error


@contextmanager
def _compressed(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """`file`, or a gzip stream into it without name and date."""
    if path.suffix.lower() != ".gz":
        yield file
        return
    with (
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as stream,
        io.BufferedWriter(cast(io.RawIOBase, stream), 2**20) as buffered,
    ):
        yield cast(IO[bytes], buffered)


def _truncated(path: Path, have: str, wanted: int) -> ImageError:
    return ImageError(f"{path} is truncated: {have} are fewer than the {wanted} that its header announces")


def _header(path: Path, block: bytes) -> Any:
    kind, size = _MAGICS.get(block[344:348], (None, 0)) if len(block) >= 348 else (None, 0)
    if block[4:8] == b"n+2\0":
        kind, size = _MAGICS[b"n+2\0"]
    if kind is None or len(block) < size:
        raise ImageError(f"{path} is no NIfTI file; its first bytes must be a complete NIfTI-1 or NIfTI-2 header")
    try:
        return kind(block[:size], check=False)
    except (HeaderDataError, ValueError) as error:
        raise ImageError(f"{path} has a damaged header: {error}") from error


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    n = int(header["dim"][0])
    if not 2 <= n <= 7:
        raise ImageError(f"{path} has {n} axes; an image must have 2 or 3")
    shape = [int(side) for side in header["dim"][1 : n + 1]]
    if min(shape) < 1:
        raise ImageError(f"{path} has the shape {tuple(shape)}; every side must be at least 1")
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    voxels = float(np.prod([float(side) for side in shape]))
    if voxels > MAX_VOXELS:
        raise ImageError(f"{path} has the shape {tuple(shape)}; an image must have at most {MAX_VOXELS} voxels")
    return tuple(shape)


def _spacing(path: Path, header: Any, axes: int) -> NDArray[np.float64]:
    spacing = np.asarray(header["pixdim"][1 : min(axes, 3) + 1], dtype=np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        values = ", ".join(f"{s:g}" for s in spacing)
        raise ImageError(f"{path} has the voxel spacing {values} mm; every spacing must be positive and finite")
    return spacing


def _matrix(path: Path, header: Any) -> NDArray[np.float64]:
    if int(header["dim"][0]) == 2 and not header["pixdim"][3] > 0:
        header["pixdim"][3] = 1  # The third axis of a 2-D file says nothing.
    try:
        matrix = np.array(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise ImageError(f"{path} does not say where its voxels are: {error}") from error
    if not np.isfinite(matrix).all():
        raise ImageError(f"{path} places its voxels by {matrix.tolist()}; the matrix must be finite")
    return matrix


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise ImageError(f"{path} has the unknown voxel type {int(header['datatype'])}") from error
    if dtype.name not in _DTYPES:
        raise ImageError(f"{path} has voxels of type {dtype}; they must be real numbers of at most 64 bits")
    return cast(np.dtype[Any], dtype)


def _offset(path: Path, header: Any) -> int:
    offset = float(header["vox_offset"])
    if not (header.sizeof_hdr <= offset <= 2**30 and offset == int(offset)):
        raise ImageError(f"{path} has its voxels at byte {offset:g}; they must begin after the header")
    return int(offset)


def _scaling(path: Path, header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise ImageError(f"{path} has slope {slope:g} and intercept {intercept:g}; both must be finite")
    return slope, intercept


def _is_sheared(matrix: NDArray[np.float64]) -> bool:
    direction = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return bool(np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4)
