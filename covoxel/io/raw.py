"""Voxels in a file: where they lie, and reading them slab by slab within the memory at hand."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from covoxel.io.regular import open_regular
from covoxel.memory import available_bytes, size_words

MAX_VOXELS = 2**31
SLAB_BYTES = 16 * 2**20
_COMPRESSED = (".gz", ".mgz")
_MAX_GZIP_RATIO = 1040  # deflate cannot shrink further
_MAX_TRAILER = 2**20


class ImageError(ValueError):
    """An image file cannot be used; the message is one sentence naming the file, the value and the rule."""


@dataclass(frozen=True)
class HeaderFields:
    """Checked fields of the header of an image file.

    Parameters
    ----------
    path
        The file that is named in messages; it holds the header.
    shape
        Sides; trailing axes of one voxel after the third are dropped.
    spacing_mm
        Along the first axes, up to three, as the header states it.
    ras_from_voxel
        `(4, 4)`, mm.
    dtype
        Of the stored voxels, with their byte order.
    offset
        Where the voxels begin, in bytes.
    slope, intercept
        Value = stored * slope + intercept.
    voxels
        The file that holds the voxels, if it is another one.
    """

    path: Path
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    ras_from_voxel: NDArray[np.float64]
    dtype: np.dtype[Any]
    offset: int
    slope: float = 1.0
    intercept: float = 0.0
    voxels: Path | None = None

    @property
    def count(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @property
    def is_scaled(self) -> bool:
        """Whether values differ from what is stored."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def slabs(fields: HeaderFields) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Stored voxels slab by slab along the last axis, unscaled: where a slab lies, and the slab.

    The file is read to its end, so that its checksum counts.

    Raises
    ------
    ImageError
        If the file is truncated or damaged.
    """
    path, length = fields.voxels or fields.path, fields.shape[-1]
    plane = fields.count // length
    step = max(1, SLAB_BYTES // (plane * fields.dtype.itemsize))
    _check_size(fields, path)
    with opened(path) as file:
        done = len(file.read(fields.offset))
        for start in range(0, length, step):
            stop = min(start + step, length)
            wanted = (stop - start) * plane * fields.dtype.itemsize
            content = file.read(wanted)
            done += len(content)
            if len(content) < wanted:
                raise _truncated(fields, f"the {done} bytes in it")
            slab = np.frombuffer(content, fields.dtype).reshape((*fields.shape[:-1], stop - start), order="F")
            yield slice(start, stop), slab
        file.read(_MAX_TRAILER)


def read_stored(fields: HeaderFields) -> NDArray[Any]:
    """All stored voxels, `fields.shape`, unscaled; see `slabs`."""
    voxels = np.empty(fields.shape, fields.dtype, order="F")
    for where, slab in slabs(fields):
        voxels[..., where] = slab
    return voxels


def check_memory(path: Path, needed: int) -> None:
    """Refuse an image that cannot fit into memory, before its first voxel is read.

    Raises
    ------
    ImageError
        If fewer than `needed` bytes are free; the sentence has both numbers.
    """
    free = available_bytes()
    if needed > free:
        raise ImageError(f"{path} needs about {size_words(needed)} of memory to be read, {size_words(free)} are free")


def check_voxels(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a shape with more than `MAX_VOXELS` voxels."""
    if float(np.prod([float(side) for side in shape])) > MAX_VOXELS:
        raise ImageError(f"{path} has the shape {tuple(shape)}; an image must have at most {MAX_VOXELS} voxels")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Bytes of a regular file, decompressed where its name ends in `.gz` or `.mgz`.

    Raises
    ------
    ImageError
        Instead of whatever fails while the file is open.
    """
    try:
        with open_regular(path) as file:
            if not is_compressed(path):
                yield file
                return
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                yield cast(IO[bytes], stream)
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; an image must be a file") from error
    except EOFError as error:
        raise ImageError(f"{path} is truncated; a {path.suffix} file must be complete") from error
    except (OSError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"{path} cannot be read, the file must be intact: {reason}") from error


def is_compressed(path: Path) -> bool:
    """Whether the file's name announces gzip."""
    return path.suffix.lower() in _COMPRESSED


def _check_size(fields: HeaderFields, path: Path) -> None:
    try:
        on_disk = path.stat().st_size
    except OSError:
        return  # `opened` names it
    most = on_disk * (_MAX_GZIP_RATIO if is_compressed(path) else 1)
    if most < fields.offset + fields.count * fields.dtype.itemsize:
        raise _truncated(fields, f"its {on_disk} bytes")


def _truncated(fields: HeaderFields, have: str) -> ImageError:
    wanted = fields.offset + fields.count * fields.dtype.itemsize
    path = fields.voxels or fields.path
    return ImageError(f"{path} is truncated: {have} are fewer than the {wanted} that its header announces")
