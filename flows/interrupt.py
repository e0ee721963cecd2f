"""The end of a run before its time: a signal, or a lost server, ends it within seconds, in one sentence, with status 1.

Tasks run in threads, which cannot be killed, and Prefect waits for them; so the process leaves without both. What is
finished is on the disk, what is being written is removed, and children are killed. A training has some seconds to save
where it is.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import NoReturn

from covoxel.processes import end_children

GO_ON = "run the same call again to go on, what is finished is kept"
INTERRUPTED = f"interrupted; {GO_ON}"
STATUS = 1
GRACE_SECONDS = 5.0
CLEANING_SECONDS = 1.0
ONE_PRESS_SECONDS = 0.2
"""Signals closer than this are one: schedulers send theirs to the process and to its group."""

stopping = threading.Event()
"""Set when the run shall end; a job that looks at it saves where it is."""
saving: set[int] = set()
"""Jobs that look at it, by `id`."""
before_waiting: list[Callable[[], None]] = []
"""What is done while they save; what takes longer is left undone."""
before_last_line: list[Callable[[], None]] = []
"""What is done before the last line."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_hurry = threading.Event()
_leaving = threading.Lock()
_listening = threading.Event()


def listen() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end the process as `leave` does, whatever the main thread is busy with.

    Signals that were ignored stay so, as under `nohup`. Call it from the main thread.
    """
    if _listening.is_set():
        return
    _listening.set()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _wait_for_end)
    threading.Thread(target=_hear, args=(reader,), name="signals", daemon=True).start()


def is_listening() -> bool:
    """Whether `listen` was called: the process is ours to end."""
    return _listening.is_set()


def leave(sentence: str) -> NoReturn:
    """End the process: trainings save where they are, children are killed, `sentence` is the last line.

    A second signal ends the wait for trainings. Of several callers the first one speaks.
    """
    if not _leaving.acquire(blocking=False):
        _wait_for_end()
    stopping.set()
    try:
        _wait_for_trainings()
        # Imported here, as this module is the first of all, and `io` imports numpy.
        atomic = sys.modules.get("covoxel.io.atomic")
        discard = [] if atomic is None else [atomic.discard_unfinished]
        for act in (end_children, *before_last_line, *discard, partial(_write, sentence)):
            _run(act).join(CLEANING_SECONDS)
    finally:
        os._exit(STATUS)


def _hear(reader: int) -> None:
    first = 0.0
    while True:
        for number in os.read(reader, 64):
            if number not in _SIGNALS:
                continue
            if not first:
                first = time.monotonic()
                _run(partial(leave, INTERRUPTED))
            elif time.monotonic() - first > ONE_PRESS_SECONDS:
                _hurry.set()


def _wait_for_trainings() -> None:
    end = time.monotonic() + GRACE_SECONDS
    others = [_run(act) for act in before_waiting]
    while (saving or any(other.is_alive() for other in others)) and not _hurry.wait(0.02) and time.monotonic() < end:
        pass


def _wait_for_end(*_: int | FrameType | None) -> NoReturn:
    """Keep a thread still until another one has ended the process."""
    time.sleep(GRACE_SECONDS + 5 * CLEANING_SECONDS)
    os._exit(STATUS)


def _run(act: Callable[[], object]) -> threading.Thread:
    def tolerant() -> None:
        with contextlib.suppress(Exception):
            act()

    thread = threading.Thread(target=tolerant, daemon=True)
    thread.start()
    return thread


def _write(sentence: str) -> None:
    """Write a line to standard error; on a terminal a new one, since it shows ^C."""
    start = "\n" if os.isatty(2) else ""
    os.write(2, f"{start}{sentence}\n".encode())
