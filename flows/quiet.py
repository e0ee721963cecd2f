"""Silence of libraries: on the terminal speaks covoxel alone."""

import contextlib
import gc
import logging
import os
import sys
import threading
from typing import NoReturn

from covoxel.processes import end_children

log = logging.getLogger(__name__)


def silence_libraries() -> None:
    """Keep records, warnings and tracebacks of other packages' threads off the terminal.

    Failures of our own work reach us as exceptions of its tasks. Warnings show if Python is asked for them (`-W`,
    PYTHONWARNINGS).
    """
    logging.getLogger().handlers[:] = [logging.NullHandler()]  # later Prefect sets its own, by `flows.environment`
    if not sys.warnoptions:
        logging.captureWarnings(True)
    threading.excepthook = _note_thread
    sys.unraisablehook = _note_object


def leave_silently(status: str | int | None) -> NoReturn:
    """End the process; where no page of Prefect waits for its last events, without the libraries' farewells."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if "PREFECT_API_URL" in os.environ or not isinstance(status, int):
        gc.freeze()  # nothing is collected at exit, which takes seconds with torch and Prefect loaded
        sys.exit(status)
    end_children()
    os._exit(status)


def _note_thread(args: threading.ExceptHookArgs) -> None:
    log.debug("a thread of a library ended with %r", args.exc_value)


def _note_object(args: "sys.UnraisableHookArgs") -> None:
    log.debug("an object of a library ended with %r", args.exc_value)
