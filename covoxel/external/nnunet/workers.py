"""Batches prepared ahead in processes of their own, which end with their parent and whose death is told."""

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

import torch

from covoxel.external.nnunet.errors import WorkerLostError
from covoxel.external.nnunet.memory import at_hand, in_words
from covoxel.external.nnunet.sampling import Batch, Batches
from covoxel.processes import begin_worker, birth_of_workers, how_it_ended

_AHEAD = 2
"""Batches for each process that wait or are being made."""

_source: list[Batches] = []


def batches_ahead(source: Batches, steps: Sequence[int], workers: int, needs: int) -> Iterator[Batch]:
    """The batch of each step, made by so many processes; the same as `source` gives.

    Parameters
    ----------
    source
        Makes them.
    steps
        In their order.
    workers
        Number of processes.
    needs
        Bytes that the training takes, to be told if one of them dies.

    Raises
    ------
    WorkerLostError
        If a process died, or had no memory left.
    """
    others, before = set(multiprocessing.active_children()), at_hand("cpu")
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (source,))
    mine: set[BaseProcess] = set()
    try:
        coming, left = deque[Future[Batch]](), iter(steps)
        for step in itertools.islice(left, _AHEAD * workers):
            with birth_of_workers():
                coming.append(pool.submit(_batch, step))
            mine |= set(multiprocessing.active_children()) - others
        while coming:
            batch = coming.popleft().result()
            coming.extend(pool.submit(_batch, step) for step in itertools.islice(left, 1))
            yield batch
    except (BrokenProcessPool, MemoryError) as error:
        pool.shutdown(wait=True, cancel_futures=True)
        raise WorkerLostError(
            f"a process that prepared batches {_end_of(mine, error)}, as happens when memory runs out: the training "
            f"takes about {in_words(needs)}, {in_words(before)} were at hand when it began and "
            f"{in_words(at_hand('cpu'))} are now; fewer workers take less"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _end_of(processes: set[BaseProcess], error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "found no memory"
    codes = [process.exitcode for process in processes if process.exitcode not in (None, 0, -signal.SIGTERM)]
    return how_it_ended(codes[0]) if codes and codes[0] is not None else "died"


def _begin(source: Batches) -> None:
    """First act of a process."""
    begin_worker()
    torch.set_num_threads(1)
    _source[:] = [source]


def _batch(step: int) -> Batch:
    return _source[0][step]
