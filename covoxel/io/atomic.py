"""Atomic writing: a file appears whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_PREFIX = ".tmp-"
_ORPHAN_SECONDS = 86400.0
_cleaned: set[Path] = set()
_cleaned_lock = threading.Lock()
_unfinished: set[Path] = set()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, and move it to `path` when the block ends well.

    Parameters
    ----------
    path
        Where the file shall be. Missing parents are made. The temporary name has the same suffixes.

    Yields
    ------
    Path
        A name that is not taken; the block must write a file there. It is removed if the block fails.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; `filename` is `path`.

    Notes
    -----
    Temporary files of writers that were killed are removed when their folder is next written to. A link at `path` is
    replaced, what it points to is not touched; links to folders on the way are followed.
    """
    path = Path(path)
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        temporary = _temporary_in(path.parent, _suffixes(path))
        try:
            yield temporary
            if not temporary.exists():
                raise FileNotFoundError(errno.ENOENT, "nothing was written for", str(path))
            temporary.replace(path)
        finally:
            _discard(temporary)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder in `parent`, which is made if missing; the folder is removed when the block ends.

    Raises
    ------
    OSError
        If no folder can be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(parent)
    folder = _temporary_in(parent)
    try:
        folder.mkdir()
        yield folder
    finally:
        _discard(folder)


def discard_unfinished() -> None:
    """Remove all that is being written, for a process that ends with its writers at work."""
    for temporary in list(_unfinished):
        _discard(temporary)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, obj: object) -> None:
    """Write `obj` to `path` atomically as JSON: sorted keys, two spaces, equal objects give equal bytes.

    Raises
    ------
    ValueError
        If `obj` holds something JSON cannot say, NaN and infinity included.
    """
    write_text(path, json_text(obj, indent=2) + "\n")


def json_text(obj: object, *, indent: int | None = None) -> str:
    """JSON text of `obj` with sorted keys; paths become text, numpy values become numbers and lists."""
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        return json.dumps(
            obj,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
            indent=indent,
            separators=separators,
            default=_plain,
        )
    except TypeError as error:
        raise ValueError(f"the object must be made of JSON values: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not one")


def _temporary_in(folder: Path, suffixes: str = "") -> Path:
    temporary = folder / f"{_PREFIX}{_place()}-{os.getpid()}-{secrets.token_hex(4)}{suffixes}"
    _unfinished.add(temporary)
    return temporary


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        _remove(temporary)
    _unfinished.discard(temporary)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary)
    else:
        temporary.unlink(missing_ok=True)


def _suffixes(path: Path) -> str:
    """`.nii.gz` of `a.1.nii.gz`, `.h5` of `a.b.h5`."""
    compressed = path.suffix.lower() in {".gz", ".bz2", ".zst"}
    return "".join(path.suffixes[-2:]) if compressed else path.suffix


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Make every OSError name `path` instead of the temporary file, or nothing."""
    try:
        yield
    except OSError as error:
        about_us = error.filename is None or Path(os.fsdecode(error.filename)).name.startswith(_PREFIX)
        if not about_us:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


@cache
def _place() -> str:
    """Mark of this machine and its process numbers: a process number means nothing elsewhere."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _remove_stale(folder: Path) -> None:
    """Remove what killed writers left in `folder`; looked at once per folder and process."""
    with _cleaned_lock:
        if folder in _cleaned:
            return
        _cleaned.add(folder)
    for leftover in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if _is_stale(leftover):
                _remove(leftover)


def _is_stale(leftover: Path) -> bool:
    place, process = leftover.name.removeprefix(_PREFIX).split("-")[:2]
    if time.time() - leftover.stat().st_mtime > _ORPHAN_SECONDS:
        return True
    return place == _place() and not _is_alive(int(process))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
