"""Writing the NIfTI file itself: header fields and voxel bytes."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from covoxel.io.atomic import atomic_path
from covoxel.io.raw import ImageError
from covoxel.spatial import Grid

_SUFFIXES = (".nii", ".nii.gz")
_GZIP_LEVEL = 3


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
        raise ImageError(f"{path} has the suffix {path.suffix!r}; an image is written to .nii or .nii.gz")


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


def _is_sheared(matrix: NDArray[np.float64]) -> bool:
    direction = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return bool(np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4)
