"""The files of an image: one list that is checked, hashed and read."""

from pathlib import Path

from covoxel.io.dicom import dicom_series_files
from covoxel.io.formats import image_suffix
from covoxel.io.hashing import sha256_file, sha256_json
from covoxel.io.nifti_header import voxels_of_pair
from covoxel.io.raw import ImageError


def image_files(path: Path) -> tuple[Path, ...]:
    """All files whose bytes decide what an image is.

    Parameters
    ----------
    path
        An image file, the `.hdr` of a pair, or the folder of a DICOM series.

    Returns
    -------
    tuple
        The file itself; header and voxels of a pair; or the slices of the series that `read_dicom_series` reads, in
        its order: copies and other series that lie beside them are not among them.

    Raises
    ------
    ImageError
        If the voxels of a pair are missing, or the folder holds no sound DICOM series.
    """
    path = Path(path)
    if path.is_dir():
        return dicom_series_files(path)
    if image_suffix(path) == ".hdr":
        return (path, voxels_of_pair(path))
    return (path,)


def sha256_image(path: Path) -> str:
    """SHA-256 of an image as it lies on disk; every byte is read once.

    Returns
    -------
    str
        The hash of the file, or of the names and hashes of all files where there are several: names as seen from the
        folder, in alphabetical order.

    Raises
    ------
    ImageError
        If a file is missing, cannot be read or is no regular file, or as for `image_files`.
    """
    path = Path(path)
    try:
        files = image_files(path)
        if files == (path,):
            return sha256_file(path)
        root = path if path.is_dir() else path.parent
        return sha256_json(sorted([file.relative_to(root).as_posix(), sha256_file(file)] for file in files))
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; an image must be a file") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
