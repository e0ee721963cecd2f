"""Distances between the surfaces of structures, in millimetres."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from covoxel.metrics.base import METRICS, Metric, check_pair, structures


def hd95_mm(
    label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor, *, spacing_mm: ArrayLike
) -> dict[int, float]:
    """95th percentile Hausdorff distance of each label: the larger of the two directed 95th percentiles.

    Parameters
    ----------
    label_map, truth
        `(*shape)` integer labels on one grid.
    values
        Labels wanted; background (0) is left out.
    spacing_mm
        Spacing along the axes, `(n,)` or one for all.

    Returns
    -------
    dict
        mm by label; NaN (n/a) for a label that is in neither map, infinity for one in one of the two only.

    Notes
    -----
    A surface is the centres of a structure's voxels that touch another voxel by a face, or the border of the image.

    References
    ----------
    Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE PAMI 1993.
    """
    pairs = _distances(label_map, truth, values, spacing_mm)
    return {value: max(_percentile(there), _percentile(back)) for value, (there, back) in pairs.items()}


def assd_mm(
    label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor, *, spacing_mm: ArrayLike
) -> dict[int, float]:
    """Average symmetric surface distance of each label, over all points of both surfaces; otherwise as `hd95_mm`."""
    pairs = _distances(label_map, truth, values, spacing_mm)
    return {value: float(np.concatenate(pair).mean()) for value, pair in pairs.items()}


def _percentile(distances: NDArray[np.float64]) -> float:
    return float(np.percentile(distances, 95)) if np.isfinite(distances).all() else float(distances.max())


def _distances(
    label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor, spacing_mm: ArrayLike
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    check_pair(label_map, truth)
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (label_map.ndim,))
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"spacing_mm must be positive, got {spacing.tolist()}")
    first, second = label_map.cpu().numpy(), truth.cpu().numpy()
    return {value: _between(first == value, second == value, spacing) for value in structures(values)}


def _between(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance from each surface point of `a` to the surface of `b`, and the other way."""
    if not (a.any() and b.any()):
        rest = np.full(1, np.inf if a.any() or b.any() else np.nan)
        return rest, rest
    window = ndimage.find_objects((a | b).astype(np.int8))[0]
    surface_a, surface_b = (_surface(mask[window]) for mask in (a, b))
    return _to(surface_b, spacing)[surface_a], _to(surface_a, spacing)[surface_b]


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # Erosion takes what lies beyond the window for empty, so its border is a surface.
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _to(surface: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    distance: Any = ndimage.distance_transform_edt(~surface, sampling=spacing)
    return np.asarray(distance, dtype=np.float64)


METRICS.register("hd95_mm")(Metric(hd95_mm, unit="mm", perfect=0.0, worst=float("inf")))
METRICS.register("assd_mm")(Metric(assd_mm, unit="mm", perfect=0.0, worst=float("inf")))
