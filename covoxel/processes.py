"""The one place that starts processes: out of the terminal's reach, ended with this one, their output in files."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.util import _run_finalizers  # type: ignore[attr-defined]
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP)
"""Signals that a terminal sends to all processes of its foreground."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_SECONDS_TO_END = 2.0
_PRIVATE = 0o077

_children: list[subprocess.Popen[bytes]] = []
_keeper = ThreadPoolExecutor(1, "keeper")


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    outlives: bool = False,
    descriptors: Sequence[int] = (),
    private: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, without input.

    Parameters
    ----------
    command
        The program and its arguments.
    log
        File that its output is appended to; one that is made is its owner's alone.
    environment
        Its environment; that of this process without it.
    folder
        Its working directory; that of this process without it.
    outlives
        Whether it stays when this process ends. Otherwise the kernel kills it then, however this process ended
        (Linux), and `end_children` does so earlier.
    descriptors
        Open files that it inherits.
    private
        Whether the files that it makes are for their owner alone; otherwise they have the usual modes.

    Raises
    ------
    OSError
        If the program cannot be started, or the log not be written.
    """

    def born() -> subprocess.Popen[bytes]:
        with open(log, "ab", opener=_open_private) as output:  # noqa: PTH123 (a Path takes no opener)
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=folder,
                start_new_session=True,
                pass_fds=tuple(descriptors),
                umask=_PRIVATE if private else -1,
                preexec_fn=None if outlives or sys.platform != "linux" else _dying_with(os.getpid()),
            )

    child = born() if outlives else _in_lasting_thread(born)
    if not outlives:
        _children.append(child)
    return child


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _in_lasting_thread(act: Callable[[], T]) -> T:
    """Do something in a thread that lives as long as this process: to the kernel the parent is a thread."""
    if threading.current_thread() is threading.main_thread():
        return act()
    return _keeper.submit(act).result()


def _dying_with(parent: int) -> Callable[[], None]:
    def set_signal() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)

    return set_signal


@contextlib.contextmanager
def birth_of_workers() -> Iterator[None]:
    """Around what starts processes of `multiprocessing`: until `begin_worker` no signal of the terminal ends them.

    They would print a traceback onto it. Only this thread is deaf meanwhile; the process hears.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker() -> None:
    """First act of a process of `multiprocessing`: a session of its own, no input, no output, ended with its parent."""
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_TERMINAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def end_children() -> None:
    """Kill all processes that this one started and that shall not outlive it, and give back what they shared."""
    workers = multiprocessing.active_children()
    for child in list(_children):
        end(child)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(_SECONDS_TO_END)
    _run_finalizers(0)  # semaphores: else the tracker of multiprocessing complains about them on the terminal


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill a program that `start` started, and all of its session."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_SECONDS_TO_END)
    with contextlib.suppress(ValueError):
        _children.remove(child)


def how_it_ended(status: int) -> str:
    """An exit status in words.

    Examples
    --------
    >>> how_it_ended(3), how_it_ended(-9)
    ('ended with status 3', 'was killed by SIGKILL')
    """
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
