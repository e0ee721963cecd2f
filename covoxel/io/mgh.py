"""The header of a FreeSurfer volume (`.mgh`, `.mgz`), and what may be wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from covoxel.io.raw import HeaderFields, ImageError, check_voxels, opened

_HEADER_BYTES = 284  # as many whatever the header holds; the voxels follow
_new_header: Any = MGHHeader  # nibabel leaves it without annotations
_DTYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def read_mgh_fields(path: Path) -> HeaderFields:
    """Read and check the header of a `.mgh` or `.mgz` file.

    Raises
    ------
    ImageError
        If it is not a sound header of real numbers, or does not state where the voxels are (`goodRASFlag` 0).
    """
    with opened(path) as file:
        block = file.read(_HEADER_BYTES)
    if len(block) < _HEADER_BYTES or block[:4] != b"\0\0\0\1":
        raise ImageError(f"{path} is no FreeSurfer volume; its first bytes must be a complete MGH header of version 1")
    placed = block[28:30] != b"\0\0"  # goodRASFlag; nibabel would put its own placement there
    header = _new_header(block, check=False)
    if not placed:
        raise ImageError(f"{path} does not say where its voxels are: its goodRASFlag is 0; it must be 1")
    sides = tuple(int(side) for side in header["dims"])
    if min(sides) < 1:
        raise ImageError(f"{path} has the shape {sides}; every side must be at least 1")
    shape = sides if sides[3] > 1 else sides[:3]
    check_voxels(path, shape)
    kind = int(header["type"])
    if kind not in _DTYPES:
        raise ImageError(f"{path} has the unknown voxel type {kind}; it must be one of {sorted(_DTYPES)}")
    spacing = np.asarray(header["delta"], dtype=np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        values = ", ".join(f"{s:g}" for s in spacing)
        raise ImageError(f"{path} has the voxel spacing {values} mm; every spacing must be positive and finite")
    matrix = np.array(header.get_affine(), dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise ImageError(f"{path} places its voxels by {matrix.tolist()}; the matrix must be finite")
    return HeaderFields(path, shape, tuple(spacing.tolist()), matrix, np.dtype(_DTYPES[kind]), _HEADER_BYTES)
