"""Errors of memory that runs out, whoever raises them: recognised in one place, and written as one sentence."""

import errno
import re
import signal
import subprocess
from concurrent.futures.process import BrokenProcessPool

import torch

from covoxel.memory import UNITS, size_words

ADVICE = "use fewer workers or a larger spacing_mm"

_SIGNS = re.compile(
    r"can't allocate memory|cannot allocate memory|failed to allocate memory|unable to allocate|out of memory"
    r"|memory (?:ran|runs) out|bad[ _]alloc|_STATUS_ALLOC_FAILED|storage size calculation overflowed|array is too big",
    re.IGNORECASE,
)
"""What torch's CPU allocator, CUDA's libraries, ITK, the C++ runtime, numpy and covoxel write where memory runs out."""
_WANTED = (
    re.compile(r"tried to allocate ([\d.]+) ?([KMGTP]?i?)B", re.IGNORECASE),
    re.compile(r"unable to allocate ([\d.]+) ?([KMGTP]?i?)B", re.IGNORECASE),
)
_FREE = re.compile(r"of which ([\d.]+) ?([KMGTP]?i?)B is free", re.IGNORECASE)
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit status of a process that the kernel killed, as Python and as a shell report it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out.

    torch's CPU allocator raises a plain RuntimeError, the kernel an OSError, numpy a MemoryError or, for an array
    larger than any address, a ValueError. A child process that was killed by SIGKILL counts too.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError | BrokenProcessPool):
        return True
    if isinstance(error, subprocess.CalledProcessError):
        return error.returncode in _KILLED
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ValueError) and _SIGNS.search(str(error)) is not None


def bytes_wanted(error: BaseException) -> int | None:
    """Bytes that were asked for when memory ran out; None where the error does not name them."""
    found = (pattern.search(str(error)) for pattern in _WANTED)
    return next((_bytes(*match.groups()) for match in found if match), None)


def bytes_free(error: BaseException) -> int | None:
    """Bytes that were free then; None where the error does not name them. CUDA does."""
    match = _FREE.search(str(error))
    return None if match is None else _bytes(*match.groups())


def memory_sentence(error: BaseException, free: int | None = None) -> str:
    """One sentence for an error of which `is_out_of_memory` holds; an error of covoxel's own brings its sentence.

    Parameters
    ----------
    error
        The error.
    free
        Bytes that are free, if the caller knows; None takes what the error names.
    """
    if type(error).__module__.startswith("covoxel.") and str(error):
        return f"not enough memory: {error}"
    wanted, free = bytes_wanted(error), bytes_free(error) if free is None else free
    if isinstance(error, BrokenProcessPool | subprocess.CalledProcessError):
        return f"not enough memory: a process of this case was killed, as the system does when memory ends; {ADVICE}"
    if wanted is None and free is None:
        return f"not enough memory for this case; {ADVICE}"
    parts = [] if wanted is None else [f"{size_words(wanted)} were asked for"]
    parts += [] if free is None else [f"{size_words(free)} are free"]
    return f"not enough memory: {', '.join(parts)}; {ADVICE}"


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * 1024 ** UNITS.index(unit[:1].upper()))
