"""Images and label maps written to NIfTI files."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from covoxel.io.nifti_file import write_nifti
from covoxel.io.raw import ImageError
from covoxel.spatial import Image

ImageDtype = Literal["float32", "float64", "uint8", "int16", "uint16", "int32"]

_LABEL_DTYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64")


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


def _check_fits(path: Path, values: NDArray[np.generic], kind: np.dtype[np.generic]) -> None:
    low, high = values.min(), values.max()
    limits = np.iinfo(kind.name)
    if not (limits.min <= low and high <= limits.max):
        raise ImageError(f"{path} must hold values from {limits.min} to {limits.max} as {kind}, got {low} to {high}")
