"""Checks of every case before anything is computed from it; a bad one gets a sentence, never an exception."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covoxel.io import ImageError, read_labels
from covoxel.memory_errors import is_out_of_memory, memory_sentence
from covoxel.spatial import Grid, Image
from data_catalog.files import load_header, load_image, sha256_of
from data_catalog.schema import Case, Cohort
from data_catalog.vocabulary import LARGEST

MAX_SPACING_MM = 25.0
GRID_TOLERANCE_VOX = 0.05
MAX_STRUCTURES = 1000
"""Label values of one map at most: fusion keeps an array of the size of the image for each."""


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
        Values of the structures in the label map, in order: neither background nor the value to ignore.
    holds_ignore
        Whether the label map has voxels of the value to ignore.
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
    holds_ignore: bool = False
    reason: str | None = None


class _BadCaseError(ValueError):
    """A rule is broken; the message is the sentence."""


def check_case(
    case: Case,
    known_labels: Collection[int] | None = None,
    expected_ndim: int | None = None,
    ignore: int | None = None,
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
    ignore
        Value of voxels without a label, which may occur too; see `Cohort.ignore`.

    Returns
    -------
    CheckedCase
        With a `reason` if a rule is broken. Broken files are no exception here.
    """
    known: dict[str, Any] = {}
    try:
        known["image_sha256"] = sha256_of(case.image)
        if case.label is not None:
            known["label_sha256"] = sha256_of(case.label)
        image = _sound_image(case.image, expected_ndim)
        known["shape"] = image.grid.shape
        known["spacing_mm"] = tuple(float(s) for s in image.grid.spacing_mm)
        known["voxels_sha256"] = _voxels_sha256(image)
        if case.label is not None:
            values = _sound_label(case.label, case.image, image.grid, ignore)
            known["label_values"] = tuple(value for value in values if value != ignore)
            known["holds_ignore"] = ignore in values
            _check_known(case.label.name, known["label_values"], known_labels)
    except (ImageError, _BadCaseError, OSError) as error:
        known["reason"] = _sentence(str(error), case)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        known["reason"] = f"{case.image.name}: the image is too large for this computer: {memory_sentence(error)}"
    return CheckedCase(case, **known)


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
    """Cases whose image another case has already, and the sentence about it.

    The same intensities in the same array are one image, whatever the file's name, header or compression. The
    original stays: an atlas before all others, so that no copy of it is segmented as a new case; then the one whose
    name the names of the others extend (`a` of `a-copy` and `a`); then the first.

    Returns
    -------
    dict
        Case id to reason, for every case but the original of each content. Cases with a `reason` are left out.
    """
    alike: dict[str, list[Case]] = {}
    for item in checked:
        if item.reason is None and item.voxels_sha256 is not None:
            alike.setdefault(item.voxels_sha256, []).append(item.case)
    reasons: dict[str, str] = {}
    for copies in alike.values():
        original = copies[0] if len(copies) == 1 else min(copies, key=partial(_distance_from_original, copies))
        for case in copies:
            if case is not original:
                reasons[case.id] = (
                    f"{case.image.name}: the image is the same as that of case {original.id} ({original.image.name}); "
                    "each image may be in the cohort once"
                )
    return reasons


def _distance_from_original(copies: Sequence[Case], case: Case) -> tuple[bool, int]:
    """How far a case is from being the original of its copies; the smallest is it."""
    own = case.id.lower()
    return case.role != "atlas", sum(other.id.lower() in own for other in copies)


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


def _sound_label(path: Path, image: Path, grid: Grid, ignore: int | None) -> tuple[int, ...]:
    """Values of a label map but 0, if it lies on the image's grid and all later stages can use it."""
    labels = read_labels(path)
    _check_same_grid(path.name, image.name, labels.grid, grid)
    found, counts = np.unique(labels.data.numpy(), return_counts=True)
    voxels = {int(value): int(count) for value, count in zip(found, counts, strict=True) if value != 0}
    _check_values(path.name, sorted(voxels))
    ignored = 0 if ignore is None else voxels.get(ignore, 0)
    marked = sum(voxels.values()) - ignored
    if not marked:
        raise _BadCaseError(f"{path.name}: the label is empty (all voxels are 0); it must mark at least one structure")
    if ignored > marked:
        raise _BadCaseError(
            f"{path.name}: {ignored} voxels have the value {ignore}, which is to be ignored, and only {marked} mark a "
            "structure; an atlas must be labelled where its structures are"
        )
    return tuple(sorted(voxels))


def _check_values(name: str, values: Sequence[int]) -> None:
    """Refuse values that fusion, training or the writing of label maps would refuse later."""
    wrong = [value for value in values if not 0 <= value <= LARGEST]
    if wrong:
        raise _BadCaseError(
            f"{name}: the label holds the value {wrong[0]}; label values must be whole numbers from 0 to {LARGEST}"
        )
    if len(values) > MAX_STRUCTURES:
        raise _BadCaseError(
            f"{name}: the label holds {len(values)} different values; a label map must have at most {MAX_STRUCTURES}, "
            "so this is probably an image of intensities"
        )


def _check_known(name: str, values: Sequence[int], known_labels: Collection[int] | None) -> None:
    unknown = [value for value in values if known_labels is not None and value not in known_labels]
    if unknown:
        known = ", ".join(str(value) for value in sorted(set(known_labels or ()) - {0}))
        raise _BadCaseError(f"{name}: the label holds the value {unknown[0]}; known values are {known}")


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
