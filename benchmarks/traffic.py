"""Bytes that the passes of a computation read and write, counted where torch hands work to its kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure import Stopwatch


class Traffic(TorchDispatchMode):
    """Sum of the sizes of what every kernel reads and writes in a with block, `bytes`.

    A view costs nothing; a value repeated along an axis is read once. What stays in a cache between two passes counts
    all the same: this is what a machine without caches would move.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the kernel and add what it moved."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(_size(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
            self.bytes += sum(_size(x) for x in tree_leaves(result) if isinstance(x, Tensor))
        return result


def _size(x: Tensor) -> int:
    distinct = 1
    for side, stride in zip(x.shape, x.stride(), strict=True):
        distinct *= side if stride else 1
    return distinct * x.element_size()


def moved_bytes(work: Callable[[], object]) -> int:
    """Bytes that `work`, done once, reads and writes."""
    with Traffic() as traffic:
        work()
    return traffic.bytes


def copy_gb_per_second(bytes_each_way: int, device: torch.device, wait: Callable[[], object]) -> float:
    """Bandwidth of the plainest pass there is: one array copied into another, read and written, best of ten."""
    source = torch.ones(bytes_each_way // 4, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(10):
        with Stopwatch() as watch:
            target.copy_(source)
            wait()
        best = min(best, watch.seconds)
    return 2 * source.numel() * 4 / best / 1e9
