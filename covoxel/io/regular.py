"""Open a file for reading only if it is a regular one: a FIFO would wait for ever, a device would never end."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind_of(mode: int) -> str:
    """Name of the kind of an entry by its `st_mode`, or "" for a regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "" if stat.S_ISREG(mode) else "no file")


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes.

    Raises
    ------
    OSError
        If it cannot be opened, or is no regular file; nothing is read from it then.
    """
    path = Path(path)
    _require_regular(path, path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)  # the entry may have been exchanged since
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(path: Path, mode: int) -> None:
    kind = kind_of(mode)
    if kind:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
