"""Seconds and memory of this process; standard library only, so that measuring one library never loads another."""

import os
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from types import TracebackType
from typing import Any, Self

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def say(text: str = "") -> None:
    """Write one line for the reader, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def thread_environment(count: int) -> dict[str, str]:
    """Variables that make numpy, torch and ITK compute with `count` threads, if set before they are loaded."""
    return dict.fromkeys(THREAD_VARIABLES, str(count))


def use_threads(count: int) -> None:
    """Set these variables for this process and its children."""
    os.environ.update(thread_environment(count))


def import_ants(seed: int) -> Any:
    """Give the module `ants` with its random sampling seeded, or end with a sentence if it is not installed.

    Two threads add up in any order all the same: ANTs repeats itself bit for bit with one thread only.
    """
    try:
        ants = import_module("ants")
    except ImportError as error:
        raise SystemExit(f"antspyx must be installed to compare with ANTs (extra `test`): {error}") from error
    ants.config.set_ants_deterministic(on=False, seed_value=seed + 1)  # on would take its threads away; 0 is the clock
    return ants


def import_peer(module: str, package: str) -> Any:
    """Give a module of another tool, or end with a sentence that names the package to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise SystemExit(f"{package} must be installed to compare with it (extra `bench`): {error}") from error


class Stopwatch:
    """Seconds of wall clock and of processor (all threads of this process) in a with block."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self) -> Self:
        self._wall, self._cpu = perf_counter(), process_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.seconds, self.cpu_seconds = perf_counter() - self._wall, process_time() - self._cpu


def peak_gib() -> float:
    """Largest resident memory of this process so far, GiB; not that of the process which started it."""
    # ru_maxrss would begin at the parent's: it survives the exec that starts a program.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    return float("nan")
