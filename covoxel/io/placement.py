"""Where a NIfTI header places the voxels: sform, qform, and whether the two agree."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from covoxel.io.raw import ImageError

log = logging.getLogger(__name__)

MAX_APART_VOX = 1.0
"""Two statements of one header may place a corner this far apart, in the smallest voxel spacing."""
NOTED_APART_VOX = 0.1
"""From here on their distance is noted in the log."""


def header_matrix(path: Path, header: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Matrix from voxel to world that a NIfTI header states, `(4, 4)`, in the header's unit of length.

    The sform counts where its code is not 0, else the qform where its code is not 0. If both codes are 0, the first
    axis points to the left, the second to the front, the third up, and the middle of the image is the origin, as
    nibabel has it. A qfac (`pixdim[0]`) that is not negative counts as 1.

    Parameters
    ----------
    path
        The file, for messages.
    header
        nibabel's header of it, unchecked; its qfac is set to 1 or -1.
    shape
        Sides of the image.

    Raises
    ------
    ImageError
        If the header states no usable matrix, or sform and qform place a corner of the image more than one voxel
        apart. A qform has no shear, so it is compared with the sform without its shear.
    """
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    if int(header["dim"][0]) == 2 and not header["pixdim"][3] > 0:
        header["pixdim"][3] = 1  # The third axis of a 2-D file states nothing.
    try:
        matrix = np.array(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise ImageError(f"{path} does not say where its voxels are: {error}") from error
    if not np.isfinite(matrix).all():
        raise ImageError(f"{path} places its voxels by {matrix.tolist()}; the matrix must be finite")
    _check_both(path, header, matrix, shape)
    return matrix


def _check_both(path: Path, header: Any, sform: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """Compare sform and qform of a header that has both."""
    codes = int(header["qform_code"]), int(header["sform_code"])
    if 0 in codes:
        return
    try:
        qform = np.array(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        log.warning("%s: the qform is not valid and is not used, the sform is: %s", path, error)
        return
    if not np.isfinite(qform).all():
        log.warning("%s: the qform is not finite and is not used, the sform is", path)
        return
    apart, voxel = _apart(qform, _without_shear(sform), shape), float(np.linalg.norm(sform[:3, :3], axis=0).min())
    if apart > MAX_APART_VOX * voxel:
        raise ImageError(
            f"{path} has a qform (code {codes[0]}) and an sform (code {codes[1]}) that place its voxels up to "
            f"{apart:.4g} mm apart; both must agree within one voxel, so remove the wrong one or set its code to 0"
        )
    if apart > NOTED_APART_VOX * voxel:
        log.warning("%s: qform and sform place its voxels up to %.3g mm apart; the sform is used", path, apart)


def _apart(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Largest distance between the places that two matrices give to a corner of the image."""
    ends = [(0, side - 1) for side in (*shape, 1, 1)[:3]]
    corners = np.stack(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    moved = (first - second)[:3] @ np.concatenate([corners, np.ones((1, corners.shape[1]))])
    return float(np.linalg.norm(moved, axis=0).max())


def _without_shear(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix of the same spacing and origin with the nearest right angles: what a qform can hold of an sform."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (spacing > 0).all():
        return matrix
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    nearest = matrix.copy()
    nearest[:3, :3] = left @ right * spacing
    return nearest
