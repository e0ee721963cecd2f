"""The files of a case, whatever their format: their voxels, their header and their content's hash."""

from pathlib import Path

from covoxel.io import Header, ImageError, read_header, read_image, sha256_file, sha256_json
from covoxel.spatial import Image


def load_image(path: Path) -> Image:
    """Image of a case: a NIfTI file, or a folder that holds one DICOM series.

    Raises
    ------
    ImageError
        If it cannot be used; the message is one sentence.
    """
    if not path.is_dir():
        return read_image(path)
    from covoxel.io.dicom import read_dicom_series  # loads SimpleITK, which most cohorts do not need

    return read_dicom_series(path)


def load_header(path: Path) -> Header | None:
    """Header of a NIfTI file, or None for a DICOM folder, whose geometry is known only once it is read."""
    return None if path.is_dir() else read_header(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files directly in a DICOM folder.

    Raises
    ------
    ImageError
        If the file is missing or cannot be read.
    """
    try:
        if not path.is_dir():
            return sha256_file(path)
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        return sha256_json([[file.name, sha256_file(file)] for file in files])
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; an image must be a file") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
