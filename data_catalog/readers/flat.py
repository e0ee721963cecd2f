"""Flat cohort: image files lying directly in one folder."""

from collections.abc import Container
from pathlib import Path

import numpy as np

from covoxel.io import ImageError
from covoxel.io.formats import image_stem
from data_catalog.files import load_header, load_image
from data_catalog.listing import Account, holds_images, is_folder
from data_catalog.readers.base import Found, assemble, pair
from data_catalog.schema import Cohort, CohortError
from data_catalog.vocabulary import vocabulary_from_tables

NAME = "flat"
LOOKS_FOR = "plain .nii, .nii.gz or other image files"
LABEL_ENDINGS = ("_dseg", "_seg", "_label", "_labels")
LABEL_FOLDERS = ("label", "mask", "seg", "annot")
"""Beginnings of the names of folders that hold label maps."""
MOST_STRUCTURES = 64
"""Values that the label maps in a folder of such hold at most, for it to be recognised by its content."""


def detect(path: Path) -> bool:
    """Whether image files lie directly in the folder."""
    return holds_images(path)


def read(path: Path) -> Cohort:
    """Every image is a case, except that `X_seg`, `X_dseg`, `X_label` beside an image `X` is its label.

    The label of `X_T1w` may also be called `X_seg`.

    Raises
    ------
    CohortError
        If the folder holds nothing but label maps.
    """
    account = Account(path)
    files = account.images(path)
    names = {image_stem(file) for file in files}
    owners = {file: owner for file in files if (owner := _owner(image_stem(file), names))}
    labels = pair(account, ((owner, file) for file, owner in owners.items()), names)
    images = [file for file in files if file not in owners]
    _check_images(path, images)
    found = [Found(image_stem(image), image, labels.get(image_stem(image))) for image in images]
    account.rest(f"images must lie directly in {path.resolve().name}")
    return assemble(
        path,
        found,
        vocabulary=vocabulary_from_tables(path),
        rejected=account.rejected,
        ignored=account.ignored,
    )


def _owner(name: str, images: Container[str]) -> str | None:
    """Name of the image whose label is called `name`, if it is a label's name."""
    for ending in LABEL_ENDINGS:
        base = name.removesuffix(ending)
        if base != name:
            return next((image for image in (base, f"{base}_T1w") if image in images), None)
    return None


def _check_images(folder: Path, images: list[Path]) -> None:
    """Refuse a folder of label maps.

    Raises
    ------
    CohortError
        If its name and the folder of images beside it speak for that, or its content does.
    """
    whole = folder.resolve()
    beside = _images_beside(whole)
    if beside is not None and whole.name.lower().startswith(LABEL_FOLDERS):
        raise CohortError(
            f"{folder} holds label maps, not images; name the folder that holds both {beside.name}/ and "
            f"{whole.name}/: {whole.parent}"
        )
    sample = [images[0], images[len(images) // 2], images[-1]] if images else []
    if images and all(map(_is_label_map, dict.fromkeys(sample))) and all(map(_has_whole_numbers, images)):
        where = f": {whole.parent}" if beside is not None else ""
        raise CohortError(
            f"{folder} holds label maps, not images: {images[0].name} has whole numbers of at most {MOST_STRUCTURES} "
            f"different values only; name the folder of the cohort{where}, or list the files in a table"
        )


def _images_beside(folder: Path) -> Path | None:
    """Folder of images that belongs to a folder of label maps: images, or imagesTr to labelsTr."""
    ending = folder.name[-2:] if folder.name.endswith(("Tr", "Ts")) else ""
    beside = folder.parent / f"images{ending}"
    return beside if is_folder(beside) and holds_images(beside) and beside != folder else None


def _is_label_map(path: Path) -> bool:
    """Whether an image looks like a label map: whole numbers from 0 on, few of them, and one of them is 0."""
    if not _has_whole_numbers(path):
        return False
    try:
        values = np.unique(load_image(path).data.numpy())
    except (ImageError, OSError, MemoryError):
        return False
    return 2 <= len(values) <= MOST_STRUCTURES and values[0] == 0 and bool((values == np.round(values)).all())


def _has_whole_numbers(path: Path) -> bool:
    """Whether the voxels of an image are stored as whole numbers; False for one that cannot be read."""
    try:
        header = load_header(path)
        return header is not None and np.dtype(header.dtype).kind in "iu"
    except (ImageError, OSError, TypeError):
        return False
