"""NRRD and MetaImage files with their voxels inside, read by ITK; LPS becomes RAS here."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from covoxel.io.formats import image_suffix
from covoxel.io.raw import HeaderFields, ImageError, check_voxels, opened

sitk: Any = SimpleITK  # its own annotations are too few for strict checking

_MAX_HEADER_BYTES = 2**20
_READERS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}
_DTYPES = {
    SimpleITK.sitkUInt8: "u1",
    SimpleITK.sitkInt8: "i1",
    SimpleITK.sitkUInt16: "u2",
    SimpleITK.sitkInt16: "i2",
    SimpleITK.sitkUInt32: "u4",
    SimpleITK.sitkInt32: "i4",
    SimpleITK.sitkUInt64: "u8",
    SimpleITK.sitkInt64: "i8",
    SimpleITK.sitkFloat32: "f4",
    SimpleITK.sitkFloat64: "f8",
}
_KNOWN_SPACES = frozenset(
    {"right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps"}
)
_MAX_RATIO = 1040  # deflate cannot shrink further


def read_itk_fields(path: Path) -> HeaderFields:
    """Read and check the header of a `.nrrd` or `.mha` file.

    Raises
    ------
    ImageError
        If it is not a sound header of real numbers, names another file as the place of its voxels, has several
        numbers a voxel, or does not state in which space its axes lie.
    """
    stored_bytes = _check_text(path)
    reader = _reader(path)
    components = reader.GetNumberOfComponents()
    if components != 1 or reader.GetPixelID() not in _DTYPES:
        raise ImageError(
            f"{path} has voxels of {components} numbers ({sitk.GetPixelIDValueAsString(reader.GetPixelID())}); every "
            "voxel must be one real number"
        )
    shape = tuple(int(side) for side in reader.GetSize())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 7 or min(shape) < 1:
        raise ImageError(f"{path} has the shape {shape}; it must have 2 or 3 axes and every side must be at least 1")
    check_voxels(path, shape)
    spacing = tuple(float(s) for s in reader.GetSpacing())[: min(len(shape), 3)]
    fields = HeaderFields(path, shape, spacing, _matrix(path, reader), np.dtype(_DTYPES[reader.GetPixelID()]), 0)
    _check_size(fields, stored_bytes)
    return fields


def read_itk_voxels(fields: HeaderFields) -> NDArray[Any]:
    """Read all voxels of a `.nrrd` or `.mha` file, `fields.shape`.

    Raises
    ------
    ImageError
        If the file is truncated or damaged.
    """
    reader = _reader(fields.path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"{fields.path} is truncated or damaged; all its voxels must be there") from error
    voxels: NDArray[Any] = sitk.GetArrayFromImage(image).T
    return voxels.reshape(fields.shape, order="F")


def _reader(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_READERS[image_suffix(path)])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = " ".join(str(error).strip().splitlines()[-1:]).strip()
        raise ImageError(f"{path} has a damaged header: {reason}") from error
    return reader


def _check_text(path: Path) -> int | None:
    """Read the header's text before ITK does, which would follow the names of other files in it.

    Returns
    -------
    int or None
        Bytes that the voxels take in the file if they are compressed and the header states it.
    """
    with opened(path) as file:
        block = file.read(_MAX_HEADER_BYTES)
    if image_suffix(path) == ".nrrd":
        _check_nrrd(path, block)
        return None
    return _check_meta(path, block)


def _check_nrrd(path: Path, block: bytes) -> None:
    if not block.startswith(b"NRRD000"):
        raise ImageError(f"{path} is no NRRD file; it must begin with NRRD")
    end = re.search(rb"\r?\n\r?\n", block)
    keys = _fields(block[: end.start()] if end else block, ":")
    if {"data file", "datafile"} & keys.keys():
        raise ImageError(f"{path} names another file for its voxels; they must lie in the file itself")
    if end is None:
        raise ImageError(f"{path} has a header without an end; an empty line must follow it")
    space = keys.get("space", "")
    if space.lower() not in _KNOWN_SPACES and ("space dimension" not in keys or "space directions" not in keys):
        stated = f"the space {space!r}" if space else "no space"
        raise ImageError(
            f"{path} states {stated}, so which side is left is unknown; its space must be left-posterior-superior, "
            "right-anterior-superior or left-anterior-superior"
        )


def _check_meta(path: Path, block: bytes) -> int | None:
    place = re.search(rb"(?im)^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*)\r?\n?", block)
    if place is None:
        raise ImageError(f"{path} is no MetaImage file; its header must end in ElementDataFile = LOCAL")
    if place[1].strip().upper() != b"LOCAL":
        raise ImageError(f"{path} names another file for its voxels; they must lie in the file itself")
    keys = _fields(block[: place.start()], "=")
    size = keys.get("compresseddatasize", "")
    if keys.get("compresseddata", "").lower() not in ("true", "1"):
        return None
    return int(size) if size.isdigit() else None


def _fields(header: bytes, separator: str) -> dict[str, str]:
    """Fields of a NRRD header by their names in lower case; comments and key/value pairs (`:=`) left out."""
    lines = header.decode("latin-1").splitlines()
    pairs = [line.split(separator, 1) for line in lines if separator in line and not line.startswith("#")]
    return {key.strip().lower(): value.strip() for key, value in pairs if not value.startswith("=")}


def _matrix(path: Path, reader: Any) -> NDArray[np.float64]:
    n = reader.GetDimension()
    m = min(n, 3)
    direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(n, n)[:m, :m]
    matrix = np.eye(4)
    matrix[:m, :m] = direction * np.asarray(reader.GetSpacing()[:m])
    matrix[:m, 3] = reader.GetOrigin()[:m]
    matrix[:2] *= -1  # LPS to RAS
    if not np.isfinite(matrix).all():
        raise ImageError(f"{path} places its voxels by {matrix.tolist()}; the matrix must be finite")
    return matrix


def _check_size(fields: HeaderFields, stored_bytes: int | None) -> None:
    """Refuse a header that announces more than the file can hold, uncompressed or at the highest compression."""
    whole, on_disk = math.prod(fields.shape) * fields.dtype.itemsize, fields.path.stat().st_size
    wanted = math.ceil(whole / _MAX_RATIO) if stored_bytes is None else stored_bytes
    if wanted > on_disk:
        raise ImageError(
            f"{fields.path} is truncated: its {on_disk} bytes are fewer than the {wanted} that its header announces"
        )
