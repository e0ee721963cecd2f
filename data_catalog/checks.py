"""Checks of every case before anything is computed from it; a bad one gets a sentence, never an exception."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covoxel.io import ImageError, read_labels
from covoxel.memory_errors import is_out_of_memory, memory_sentence
from covoxel.spatial import Grid, Image
from data_catalog.files import load_header, load_image, sha256_of
from data_catalog.schema import Case, Cohort

MAX_SPACING_MM = 25.0
GRID_TOLERANCE_VOX = 0.05


@dataclass(frozen=True)
class CheckedCase:
    """What the checks found of one case.

    Parameters
    ----------
    case
        The case.
    image_sha256, label_sha256
        Hash of the files as they lie on disk; None if they could not be read or there is no label.
    voxels_sha256
        Hash of the image's shape and intensities, whatever the compression, header or file name.
    shape, spacing_mm
        Of the image, along i, j (and k).
    label_values
        Values of the label map, background left out, in order.
    reason
        Why the case must be set aside: one sentence naming file, value and rule. None for a good case.
    """

    case: Case
    image_sha256: str | None = None
    label_sha256: str | None = None
    voxels_sha256: str | None = None
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    label_values: tuple[int, ...] = ()
    reason: str | None = None


class _BadCaseError(ValueError):
    """A rule is broken; the message is the sentence."""


def check_case(
    case: Case, known_labels: Collection[int] | None = None, expected_ndim: int | None = None
) -> CheckedCase:
    """Read the files of a case and hold them against all rules.

    Parameters
    ----------
    case
        Only what it carries is read: a label it lost (see `Cohort.with_atlases`) is not.
    known_labels
        Label values that may occur beside 0; None for any.
    expected_ndim
        2 or 3, see `expected_ndim`; None for either.

    Returns
    -------
    CheckedCase
        With a `reason` if a rule is broken. Broken files are no exception here.
    """
    known: dict[str, object] = {}
    try:
        known["image_sha256"] = sha256_of(case.image)
        if case.label is not None:
            known["label_sha256"] = sha256_of(case.label)
        image = _sound_image(case.image, expected_ndim)
        known["shape"] = image.grid.shape
        known["spacing_mm"] = tuple(float(s) for s in image.grid.spacing_mm)
        known["voxels_sha256"] = _voxels_sha256(image)
        if case.label is not None:
            known["label_values"] = _sound_label(case.label, case.image, image.grid, known_labels)
    except (ImageError, _BadCaseError, OSError) as error:
        known["reason"] = _sentence(str(error), case)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        known["reason"] = f"{case.image.name}: the image is too large for this computer: {memory_sentence(error)}"
    return CheckedCase(case, **known)  # type: ignore[arg-type]


def expected_ndim(cohort: Cohort) -> int | None:
    """2 or 3, whichever most images of the cohort are by their headers (a tie is 3); None if none can be read."""
    counts: Counter[int] = Counter()
    for case in cohort.cases:
        try:
            header = load_header(case.image)
        except (ImageError, OSError):
            continue
        counts[3 if header is None else min(len(header.shape), 3)] += 1
    return max(counts, key=lambda n: (counts[n], n)) if counts else None


def find_duplicates(checked: Iterable[CheckedCase]) -> dict[str, str]:
    """Cases whose image another case has already, and the sentence that says so.

    The same intensities in the same array are one image, whatever the file's name, header or compression. Of
    several the first stays; an atlas comes before all others, so that no copy of it is segmented as a new case.

    Returns
    -------
    dict
        Case id to reason, for every case but the first of each content. Cases with a `reason` are left out.
    """
    first: dict[str, Case] = {}
    reasons: dict[str, str] = {}
    for item in sorted(checked, key=lambda item: item.case.role != "atlas"):
        if item.reason is not None or item.voxels_sha256 is None:
            continue
        keeper = first.setdefault(item.voxels_sha256, item.case)
        if keeper is not item.case:
            reasons[item.case.id] = (
                f"{item.case.image.name}: the image is the same as that of case {keeper.id} ({keeper.image.name}); "
                "each image may be in the cohort once"
            )
    return reasons


def _sound_image(path: Path, expected: int | None) -> Image:
    """The image, if it is one this cohort can use."""
    name = path.name
    header = load_header(path)
    if header is not None:
        _check_axes(name, header.shape, expected)
        _check_spacing(name, header.spacing_mm)
    image = load_image(path)
    _check_axes(name, image.grid.shape, expected)
    _check_spacing(name, tuple(image.grid.spacing_mm))
    _check_intensities(name, image.data.numpy())
    return image


def _check_axes(name: str, shape: tuple[int, ...], expected: int | None) -> None:
    sides = " × ".join(map(str, shape))
    if len(shape) > 3:
        raise _BadCaseError(
            f"{name}: the file holds a series of volumes ({sides}); it must hold one single volume, so extract one"
        )
    if expected is None:
        return
    if len(shape) != expected or (expected == 3 and min(shape) == 1):
        kind = "a 2-D image" if len(shape) == 2 else "a single slice" if min(shape) == 1 else "a 3-D image"
        raise _BadCaseError(f"{name}: the file holds {kind} ({sides} voxels), but this cohort is {expected}-D")


def _check_spacing(name: str, spacing_mm: tuple[float, ...]) -> None:
    for spacing in spacing_mm:
        if not 0 < spacing <= MAX_SPACING_MM:
            raise _BadCaseError(
                f"{name}: the distance between voxels is {spacing:g} mm; "
                f"it must be above 0 and at most {MAX_SPACING_MM:g} mm"
            )


def _check_intensities(name: str, values: NDArray[np.float32]) -> None:
    wrong = int(values.size - np.isfinite(values).sum())
    if wrong:
        verb = "voxel is" if wrong == 1 else "voxels are"
        raise _BadCaseError(f"{name}: {wrong} {verb} not a number (NaN or infinite); every voxel must have a value")
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        raise _BadCaseError(f"{name}: every voxel has the value {lowest:g}; an image must show something")


def _voxels_sha256(image: Image) -> str:
    digest = hashlib.sha256(repr(image.grid.shape).encode())
    digest.update(np.ascontiguousarray(image.data.numpy()).data)
    return digest.hexdigest()


def _sound_label(path: Path, image: Path, grid: Grid, known_labels: Collection[int] | None) -> tuple[int, ...]:
    """Values of a label map, if it lies on the image's grid and may be used."""
    labels = read_labels(path)
    _check_same_grid(path.name, image.name, labels.grid, grid)
    values = tuple(int(value) for value in np.unique(labels.data.numpy()) if value != 0)
    if not values:
        raise _BadCaseError(f"{path.name}: the label is empty (all voxels are 0); it must mark at least one structure")
    unknown = [value for value in values if known_labels is not None and value not in known_labels]
    if unknown:
        known = ", ".join(str(value) for value in sorted(set(known_labels or ()) - {0}))
        raise _BadCaseError(f"{path.name}: the label holds the value {unknown[0]}; known values are {known}")
    return values


def _check_same_grid(label: str, image: str, label_grid: Grid, image_grid: Grid) -> None:
    if label_grid.shape != image_grid.shape:
        sides = [" × ".join(map(str, grid.shape)) for grid in (label_grid, image_grid)]
        raise _BadCaseError(
            f"{label}: the label has {sides[0]} voxels but the image {image} has {sides[1]}; "
            "both must have the same grid"
        )
    tolerance_mm = GRID_TOLERANCE_VOX * float(image_grid.spacing_mm.min())
    if not label_grid.isclose(image_grid, tolerance_mm):
        ends = np.stack([np.zeros(image_grid.ndim), np.asarray(image_grid.shape) - 1.0])
        apart_mm = np.linalg.norm(label_grid.to_ras(ends) - image_grid.to_ras(ends), axis=1).max()
        raise _BadCaseError(
            f"{label}: the label lies up to {apart_mm:.3g} mm away from the image {image} though both have as many "
            "voxels; position, orientation and voxel spacing in the two headers must agree"
        )


def _sentence(message: str, case: Case) -> str:
    """`message` with file names instead of whole paths."""
    for path in (case.label, case.image):
        if path is not None:
            message = message.replace(str(path), path.name)
    return message
