"""Overlap of label maps: Dice and Jaccard, one number a label."""

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from covoxel.metrics.base import METRICS, Metric, check_pair, structures


def dice(
    label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor, *, spacing_mm: ArrayLike = 1.0
) -> dict[int, float]:
    """Dice overlap `2 |A ∩ B| / (|A| + |B|)` of each label.

    Parameters
    ----------
    label_map, truth
        `(*shape)` integer labels on one grid.
    values
        Labels wanted. Background (0) is never counted, even where it is named: it reads 0.86 with no registration.
    spacing_mm
        Not used, overlap has no unit; all metrics are called alike.

    Returns
    -------
    dict
        Number in 0 to 1 by label; NaN (n/a) for a label that is in neither map, 0 for one in one of the two only.
        Never an average: see `summarise`.

    Raises
    ------
    ValueError
        If shapes differ or labels are not integers.

    References
    ----------
    Dice, Measures of the amount of ecologic association between species, Ecology 1945.
    """
    return {value: _ratio(2 * both, a + b) for value, (both, a, b) in _counts(label_map, truth, values).items()}


def jaccard(
    label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor, *, spacing_mm: ArrayLike = 1.0
) -> dict[int, float]:
    """Jaccard overlap `|A ∩ B| / |A ∪ B|` of each label; arguments, empty labels and errors as for `dice`."""
    return {value: _ratio(both, a + b - both) for value, (both, a, b) in _counts(label_map, truth, values).items()}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _counts(label_map: Tensor, truth: Tensor, values: Sequence[int] | Tensor) -> dict[int, tuple[int, int, int]]:
    """Voxels in both, in the label map and in the truth, by label."""
    check_pair(label_map, truth)
    wanted = structures(values)
    if not wanted:
        return {}
    ordered = torch.tensor(sorted(wanted), device=label_map.device)
    first, second = _positions(label_map, ordered), _positions(truth.to(label_map.device), ordered)
    side = len(wanted) + 1
    table = torch.bincount(first * side + second, minlength=side * side).view(side, side).cpu()
    rows, columns, equal = table.sum(1).tolist(), table.sum(0).tolist(), table.diagonal().tolist()
    at = {value: position + 1 for position, value in enumerate(sorted(wanted))}
    return {value: (equal[at[value]], rows[at[value]], columns[at[value]]) for value in wanted}


def _positions(labels: Tensor, ordered: Tensor) -> Tensor:
    """1 + the place of each voxel's label in `ordered`, 0 where it is not there; flat."""
    flat = labels.reshape(-1).to(ordered.dtype)
    place = torch.searchsorted(ordered, flat).clamp_(max=len(ordered) - 1)
    return torch.where(ordered[place] == flat, place + 1, 0)


METRICS.register("dice")(Metric(dice, unit="", perfect=1.0, worst=0.0))
METRICS.register("jaccard")(Metric(jaccard, unit="", perfect=1.0, worst=0.0))
