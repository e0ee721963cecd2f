"""Volumes of structures, and how far they are from the true ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from covoxel.metrics.base import METRICS, Metric, check_pair, structures
from covoxel.spatial import Image


def volumes_mm3(labels: Image, values: Sequence[int] | Tensor) -> dict[int, float]:
    """Volume of each label: its voxels times the volume of a voxel.

    Parameters
    ----------
    labels
        Label map, integer.
    values
        Labels wanted; background (0) is left out.

    Returns
    -------
    dict
        mm³ by label (mm² on a 2-D grid); 0 for a label that is not there.
    """
    check_pair(labels.data, labels.data)
    return {v: int((labels.data == v).sum()) * labels.grid.voxel_volume_mm for v in structures(values)}


def volume_difference_percent(
    label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor, *, spacing_mm: ArrayLike = 1.0
) -> dict[int, float]:
    """Absolute volume difference over the mean of the two volumes, `200 |a - b| / (a + b)`, in percent.

    Arguments as for `dice`; on one grid the spacing cancels. NaN for a label in neither map, 200 for one in one only.
    """
    check_pair(label_map, truth)
    result = {}
    for value in structures(values):
        a, b = int((label_map == value).sum()), int((truth == value).sum())
        result[value] = float(200 * abs(a - b) / (a + b)) if a + b else float(np.nan)
    return result


METRICS.register("volume_difference_percent")(Metric(volume_difference_percent, unit="%", perfect=0.0, worst=200.0))
