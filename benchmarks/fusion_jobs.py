"""Work of many cases in several processes of one thread each, in the order it was given."""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeVar

import torch

from benchmarks.measure import import_ants, say, use_threads
from covoxel.fusion import FUSION_RULES

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers:
    """Processes that wait for work, in a with block.

    Parameters
    ----------
    processes
        How many.
    seed
        Of ANTs, where it is asked for.
    folder
        For temporary files: ANTs leaves some behind.
    with_ants
        Whether ANTs is loaded, before anything is timed.
    """

    def __init__(self, processes: int, seed: int, folder: Path, *, with_ants: bool) -> None:
        settings = (seed, str(folder), with_ants)
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

    def all(self, what: str, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """Results of all jobs, in their order; says how far it is."""
        start = perf_counter()
        futures = [self._pool.submit(function, job) for job in jobs]
        steps = {max(1, len(jobs) * part // 4) for part in range(1, 5)}
        for count, future in enumerate(as_completed(futures), 1):
            future.result()
            if count in steps:
                say(f"{what:38s} {count:4d}/{len(jobs)}  {perf_counter() - start:6.0f} s")
        return [future.result() for future in futures]


def _start(seed: int, folder: str, with_ants: bool) -> None:
    """One thread, and everything that is timed loaded."""
    use_threads(1)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    torch.set_num_threads(1)
    for rule in FUSION_RULES:
        FUSION_RULES[rule]
    if with_ants:
        import_ants(seed)
