"""Opening regular files alone: a FIFO, a device or a socket is refused before it can block."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading its bytes; nothing else is opened, so nothing blocks.

    Raises
    ------
    OSError
        If there is no such file, it cannot be opened, or it is no regular file.
    """
    path = Path(path)
    _check(path, path.stat().st_mode)  # before opening: opening a device may have effects
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a socket and no regular file", str(path))
