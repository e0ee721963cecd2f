"""Image file formats: which suffixes are images, which of them are read, and a file's name without its suffix."""

from pathlib import PurePath

READ_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".mgz", ".mgh", ".nrrd", ".mha")
"""Suffixes of images that are read; `.hdr` stands for the pair `.hdr` and `.img`."""

OTHER_SUFFIXES = (".img", ".img.gz", ".hdr.gz", ".nhdr", ".mhd", ".mnc", ".mnc.gz", ".nrrd.gz", ".head", ".brik")
"""Suffixes of images that are not read: the second half of a pair, or a format that names other files."""

_BY_LENGTH = sorted((*READ_SUFFIXES, *OTHER_SUFFIXES), key=len, reverse=True)
_ANY = tuple(_BY_LENGTH)


def image_suffix(path: PurePath | str) -> str:
    """Suffix of an image's file name in lower case (`.nii.gz` of `A.NII.GZ`), or "" for a name of another kind."""
    name = _name(path).lower()
    return next((suffix for suffix in _BY_LENGTH if name.endswith(suffix)), "") if name.endswith(_ANY) else ""


def image_stem(path: PurePath | str) -> str:
    """File name without the suffix of an image format, upper and lower case kept; other names as they are."""
    name = _name(path)
    suffix = image_suffix(name)
    return name[: len(name) - len(suffix)] if suffix else name


def _name(path: PurePath | str) -> str:
    """File name of a path; text is not taken apart as a path object would, which costs more than all else."""
    return path.rpartition("/")[2] if isinstance(path, str) else path.name
