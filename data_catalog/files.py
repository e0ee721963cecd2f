"""The files of a case, whatever their format: their voxels, their header and their content's hash."""

from pathlib import Path

from covoxel.io import Header, image_files, read_dicom_series, read_header, read_image, sha256_image
from covoxel.spatial import Image


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of an image: what `load_image` reads and `sha256_of` hashes, and nothing else.

    Raises
    ------
    ImageError
        If the voxels of a pair are missing, or a folder holds no sound DICOM series.
    """
    return image_files(path)


def load_image(path: Path) -> Image:
    """Image of a case: an image file, or a folder that holds one DICOM series.

    Raises
    ------
    ImageError
        If it cannot be used; the message is one sentence.
    """
    return read_dicom_series(path) if path.is_dir() else read_image(path)


def load_header(path: Path) -> Header | None:
    """Header of an image file, or None for a DICOM folder, whose geometry is known only once it is read."""
    return None if path.is_dir() else read_header(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of `files_of` where there are several.

    Raises
    ------
    ImageError
        If a file is missing or cannot be read, or as for `files_of`.
    """
    return sha256_image(path)
