"""Memory that runs out is recognised whoever raises the error, and the sentence has the bytes."""

import errno
import mmap
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch

from covoxel.external.nnunet.errors import MemoryLimitError, WorkerLostError
from covoxel.memory import size_words
from covoxel.memory_errors import ADVICE, bytes_free, bytes_wanted, is_out_of_memory, memory_sentence


def _itk() -> None:
    import SimpleITK

    SimpleITK.Image([2**15] * 3, SimpleITK.sitkFloat64)


def _killed(command: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", command], check=True)


def _caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("there was room for it")


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda: torch.empty(2**45), 2**47),
        (lambda: torch.nn.functional.interpolate(torch.zeros(1, 1, 8, 8, 8), size=(2**15, 2**15, 2**15)), 2**47),
        (lambda: np.empty(2**45), 2**48),
        (lambda: np.empty((3, 2**46), dtype=np.uint8), 3 * 2**46),
        (lambda: torch.zeros((2**21, 2**21, 2**21)), None),
        (lambda: np.empty((2**31, 2**31, 2)), None),
        (lambda: bytearray(2**50), None),
        (lambda: mmap.mmap(-1, 2**60), None),
        (_itk, None),
        (_killed("import os; os.kill(os.getpid(), 9)"), None),
        (_killed("raise SystemExit(137)"), None),
    ],
)
def test_what_a_library_raises_is_recognised_with_its_bytes(function: Callable[[], object], wanted: int | None) -> None:
    error = _caught(function)
    assert is_out_of_memory(error)
    assert bytes_wanted(error) == wanted
    assert memory_sentence(error).startswith("not enough memory")
    assert memory_sentence(error).endswith(ADVICE)
    assert wanted is None or f"{size_words(wanted)} were asked for" in memory_sentence(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        BrokenProcessPool("A process in the process pool was terminated abruptly"),
        WorkerLostError("a process was killed by SIGKILL, as happens when memory runs out"),
    ],
)
def test_what_cannot_be_provoked_here_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert memory_sentence(error).startswith("not enough memory")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("the array is too small"),
        OSError(errno.ENOSPC, "No space left on device"),
        subprocess.CalledProcessError(1, "nnUNetv2_train"),
        KeyError("out of memory"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_gpu_names_what_is_free() -> None:
    text = "CUDA out of memory. Tried to allocate 12.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which 3.10 GiB"
    error = torch.OutOfMemoryError(f"{text} is free. Including non-PyTorch memory")
    assert (bytes_wanted(error), bytes_free(error)) == (12 * 2**30, int(3.1 * 2**30))
    assert memory_sentence(error) == f"not enough memory: 12.0 GiB were asked for, 3.1 GiB are free; {ADVICE}"
    assert (
        memory_sentence(error, free=2**20) == f"not enough memory: 12.0 GiB were asked for, 1.0 MiB are free; {ADVICE}"
    )


def test_an_error_of_our_own_keeps_its_sentence() -> None:
    own = "an image of (9, 9, 9) voxels takes about 4.00 GiB (4294967296 bytes) to predict"
    assert memory_sentence(MemoryLimitError(own)) == f"not enough memory: {own}"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3 * 2**29, "1.5 GiB"), (2**60, "1024.0 PiB")],
)
def test_bytes_in_words(count: int, words: str) -> None:
    assert size_words(count) == words
