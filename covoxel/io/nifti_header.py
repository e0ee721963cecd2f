"""The header of a NIfTI file or pair, and what may be wrong with it."""

from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from covoxel.io.formats import image_stem, image_suffix
from covoxel.io.placement import header_matrix
from covoxel.io.raw import HeaderFields, ImageError, check_voxels, opened

_MAGICS: dict[bool, tuple[bytes, bytes]] = {False: (b"n+1\0", b"n+2\0"), True: (b"ni1\0", b"ni2\0")}
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
_DTYPES = frozenset(np.dtype(t).name for t in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"))


def read_nifti_fields(path: Path) -> HeaderFields:
    """Read and check the header of a NIfTI file (`.nii`, `.nii.gz`) or pair (`.hdr` beside `.img`).

    Raises
    ------
    ImageError
        If it is not a sound NIfTI header of real numbers. An Analyze 7.5 header is refused: it has the same suffix
        and does not state which side is left.
    """
    is_pair = image_suffix(path) == ".hdr"
    with opened(path) as file:
        header = _header(path, file.read(544), is_pair)
    shape = _shape(path, header)
    scale_mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, 1.0)
    spacing = _spacing(path, header, len(shape)) * scale_mm
    matrix = header_matrix(path, header, shape)
    matrix[:3] *= scale_mm
    slope, intercept = _scaling(path, header)
    return HeaderFields(
        path,
        shape,
        tuple(spacing.tolist()),
        matrix,
        _dtype(path, header),
        _offset(path, header, is_pair),
        slope,
        intercept,
        voxels=voxels_of_pair(path) if is_pair else None,
    )


def voxels_of_pair(path: Path) -> Path:
    """Path of the `.img` beside a `.hdr`, upper or lower case.

    Raises
    ------
    ImageError
        If there is none.
    """
    stem = image_stem(path)
    for suffix in (".img", ".IMG", ".Img"):
        if path.with_name(stem + suffix).exists():
            return path.with_name(stem + suffix)
    raise ImageError(f"{path} is the header of a pair; its voxels must lie beside it in {stem}.img, which is missing")


def _header(path: Path, block: bytes, is_pair: bool) -> Any:
    kind, size = _version(block, *_MAGICS[is_pair])
    if is_pair and kind is None and _is_analyze(block):
        raise ImageError(
            f"{path} is an Analyze 7.5 header, which does not state which side is left; convert the image to NIfTI"
        )
    if kind is None or len(block) < size:
        whole = "NIfTI pair" if is_pair else "NIfTI file"
        raise ImageError(f"{path} is no {whole}; its first bytes must be a complete NIfTI-1 or NIfTI-2 header")
    try:
        return kind(block[:size], check=False)
    except (HeaderDataError, ValueError) as error:
        raise ImageError(f"{path} has a damaged header: {error}") from error


def _version(block: bytes, first: bytes, second: bytes) -> tuple[Any, int]:
    """Class and size of the header, by the magic bytes of NIfTI-1 and NIfTI-2."""
    if block[4:8] == second:
        return nib.Nifti2Header, 540
    return (nib.Nifti1Header, 348) if block[344:348] == first else (None, 0)


def _is_analyze(block: bytes) -> bool:
    size = block[:4]
    return len(block) >= 348 and 348 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    n = int(header["dim"][0])
    if not 2 <= n <= 7:
        raise ImageError(f"{path} has {n} axes; an image must have 2 or 3")
    shape = [int(side) for side in header["dim"][1 : n + 1]]
    if min(shape) < 1:
        raise ImageError(f"{path} has the shape {tuple(shape)}; every side must be at least 1")
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    check_voxels(path, tuple(shape))
    return tuple(shape)


def _spacing(path: Path, header: Any, axes: int) -> NDArray[np.float64]:
    spacing = np.asarray(header["pixdim"][1 : min(axes, 3) + 1], dtype=np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        values = ", ".join(f"{s:g}" for s in spacing)
        raise ImageError(f"{path} has the voxel spacing {values} mm; every spacing must be positive and finite")
    return spacing


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise ImageError(f"{path} has the unknown voxel type {int(header['datatype'])}") from error
    if dtype.name not in _DTYPES:
        raise ImageError(f"{path} has voxels of type {dtype}; they must be real numbers of at most 64 bits")
    return cast(np.dtype[Any], dtype)


def _offset(path: Path, header: Any, is_pair: bool) -> int:
    offset = float(header["vox_offset"])
    least = 0 if is_pair else header.sizeof_hdr
    if not (least <= offset <= 2**30 and offset == int(offset)):
        raise ImageError(f"{path} has its voxels at byte {offset:g}; they must begin after the header")
    return int(offset)


def _scaling(path: Path, header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise ImageError(f"{path} has slope {slope:g} and intercept {intercept:g}; both must be finite")
    return slope, intercept
