"""What a metric of label maps is: a function, and the facts a table and a test need about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike
from torch import Tensor

from covoxel.registry import Registry


@dataclass(frozen=True)
class Metric:
    """A comparison of a label map with the truth, one number a label.

    Called as `metric(label_map, truth, values, spacing_mm=…)`. Background (0) is never counted, even where it is in
    `values`. A label that is in neither map gives NaN, which tables show as n/a; one that is in one of the two only
    gives `worst`.

    Parameters
    ----------
    function
        `f(label_map, truth, values, *, spacing_mm) -> {value: number}`.
    unit
        Unit of the number, "" if it has none.
    perfect, worst
        The value for equal label maps, and the limit in the other direction.
    symmetric
        Whether label map and truth may change places.
    """

    function: Callable[..., dict[int, float]]
    unit: str
    perfect: float
    worst: float
    symmetric: bool = True

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number is a better one."""
        return self.perfect > self.worst

    def __call__(
        self, label_map: Tensor, truth: Tensor, values: Sequence[int], *, spacing_mm: ArrayLike = 1.0
    ) -> dict[int, float]:
        """`{value: number}` of two integer label maps `(*shape)` on one grid."""
        return self.function(label_map, truth, values, spacing_mm=spacing_mm)


METRICS: Registry[Metric] = Registry("metric", "covoxel.metrics")


def structures(values: Sequence[int] | Tensor) -> list[int]:
    """`values` as integers, once each, in their order and without background."""
    return [value for value in dict.fromkeys(int(v) for v in values) if value != 0]


def check_pair(label_map: Tensor, truth: Tensor) -> None:
    """Refuse label maps of different shapes or with fractions."""
    if label_map.shape != truth.shape:
        raise ValueError(f"label_map and truth must share one grid, got {tuple(label_map.shape)}, {tuple(truth.shape)}")
    for name, labels in (("label_map", label_map), ("truth", truth)):
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"{name} must hold integers, got {labels.dtype}")
