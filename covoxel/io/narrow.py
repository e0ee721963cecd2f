"""Values as float32: rounded, never merged; what lies far from 0 is moved towards it first."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covoxel.io.raw import SLAB_BYTES, ImageError

log = logging.getLogger(__name__)

LARGEST = float(np.finfo(np.float32).max)
SMALLEST_SPAN = 1e-30
"""Values must differ by more: below, float32 has fewer and fewer digits."""
_SAMPLE = 2**17
_ENOUGH_LEVELS = 4096
_ULP = 2.0**-23  # distance of neighbouring float32, relative


def is_safe(dtype: np.dtype[Any], slope: float, intercept: float) -> bool:
    """Whether float32 keeps apart all values that such a file can hold, whatever they are."""
    if dtype.kind == "f":
        return dtype.itemsize <= 4 and (slope, intercept) == (1.0, 0.0)
    if dtype.itemsize > 2:
        return False
    limits = np.iinfo(dtype)
    largest = max(abs(float(end) * slope + intercept) for end in (limits.min, limits.max))
    return largest < LARGEST and largest * _ULP <= abs(slope) and abs(slope) > SMALLEST_SPAN


def scaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """`stored * slope + intercept`, computed in float64 unless that changes nothing."""
    if (slope, intercept) == (1.0, 0.0):
        return stored
    values: NDArray[Any] = stored.astype(np.float64) * slope + intercept
    return values


def narrowed(path: Path, stored: NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> NDArray[np.float32]:
    """`stored * slope + intercept` as float32 in C order, less an offset where float32 would merge grey levels.

    Parameters
    ----------
    path
        The file, for messages.
    stored
        Any shape and real type.
    slope, intercept
        Value = stored * slope + intercept.

    Returns
    -------
    array
        An offset is subtracted only if it at least doubles the number of grey levels that are left (in a sample, up
        to 4096), so values near 0, such as Hounsfield units, stay as they are. It is one of the values of the file.

    Raises
    ------
    ImageError
        If a finite value, less the offset, lies beyond the range of float32, or all differ by less than 1e-30.
    """
    if is_safe(stored.dtype, slope, intercept):
        return _converted(stored, None, slope, intercept)
    ends = _ends(stored)
    if ends is None:  # no finite value: that is for the caller to refuse
        return _converted(stored, None, slope, intercept)
    zero = _zero(stored, ends, slope, intercept)
    _check_range(path, ends, zero, slope, intercept)
    if zero is not None:
        log.info("%s: %.17g was subtracted from all values, float32 would merge them", path, zero * slope + intercept)
    return _converted(stored, zero, slope, intercept)


def _converted(stored: NDArray[Any], zero: Any, slope: float, intercept: float) -> NDArray[np.float32]:
    values = np.empty(stored.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for where in _parts(stored):
            part = stored[..., where]
            moved = scaled(part, slope, intercept) if zero is None else _difference(part, zero) * slope
            values[..., where] = moved
    return values


def _parts(stored: NDArray[Any]) -> Iterator[slice]:
    """Slabs along the last axis, small beside the image."""
    length = stored.shape[-1]
    step = max(1, SLAB_BYTES // max(1, 8 * stored.size // length))
    for start in range(0, length, step):
        yield slice(start, start + step)


def _difference(part: NDArray[Any], zero: Any) -> NDArray[np.float64]:
    """`part - zero` without loss: whole numbers are subtracted as such."""
    if part.dtype.kind == "f":
        return part.astype(np.float64) - float(zero)
    wide = np.uint64 if part.dtype.kind == "u" else np.int64
    apart = part.astype(wide) - np.asarray(int(zero), wide)  # wraps around; the next line undoes that
    return apart.view(np.int64).astype(np.float64)


def _ends(stored: NDArray[Any]) -> tuple[Any, Any] | None:
    """Smallest and largest finite stored value, as Python numbers."""
    low, high = [], []
    for where in _parts(stored):
        part = stored[..., where]
        finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part
        if finite.size:
            low.append(finite.min().item())
            high.append(finite.max().item())
    return (min(low), max(high)) if low else None


def _zero(stored: NDArray[Any], ends: tuple[Any, Any], slope: float, intercept: float) -> Any:
    """Stored value that shall become 0, or None where the values can stay as they are."""
    if isinstance(ends[0], int) and ends[1] - ends[0] >= 2**63:
        return None
    sample = np.unique(_sample(stored))
    levels = min(len(sample), _ENOUGH_LEVELS)
    left = _levels(scaled(sample, slope, intercept))
    few_whole = stored.dtype.kind != "f" and levels <= 256 and left < levels
    if left * 2 > levels and not few_whole:
        return None
    candidates = [ends[0], sample[len(sample) // 2].item(), ends[1]]
    counts = [_levels(_difference(sample, zero) * slope) for zero in candidates]
    best = int(np.argmax(counts))
    better = counts[best] > left if few_whole else counts[best] >= 2 * left
    return candidates[best] if better else None


def _sample(stored: NDArray[Any]) -> NDArray[Any]:
    flat = stored.reshape(-1, order="F" if stored.flags.f_contiguous else "C")
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    return sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample


def _levels(values: NDArray[Any]) -> int:
    """Number of different float32 numbers that `values` become; what is too large for float32 counts as one."""
    with np.errstate(over="ignore"):
        return len(np.unique(values.astype(np.float32)))


def _check_range(path: Path, ends: tuple[Any, Any], zero: Any, slope: float, intercept: float) -> None:
    low, high = sorted(float(end) * slope + intercept for end in ends)
    offset = 0.0 if zero is None else float(zero) * slope + intercept
    if not (abs(low - offset) <= LARGEST and abs(high - offset) <= LARGEST):
        raise ImageError(
            f"{path} holds values from {low:g} to {high:g}; intensities must lie within ±{LARGEST:.2g}, so divide "
            "them by a power of ten"
        )
    span = (float(ends[1]) - float(ends[0])) * abs(slope)
    if 0 < span < SMALLEST_SPAN:
        raise ImageError(
            f"{path} holds values that span {span:g} only; they must span at least {SMALLEST_SPAN:g}, so multiply "
            "them by a power of ten"
        )
