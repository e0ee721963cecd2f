"""What is done: one record per stage and case, known by the content of inputs, settings, code and outputs."""

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from covoxel.io.atomic import write_text
from covoxel.io.hashing import sha256_file, sha256_json
from covoxel.record import FORMAT, MAX_RECORD_BYTES, Record, record_of, record_text

__all__ = [
    "FORMAT",
    "STATE_FOLDER",
    "FolderLock",
    "FolderLockedError",
    "Manifest",
    "Record",
    "code_sha256",
    "fingerprint",
]

STATE_FOLDER = ".covoxel"


class FolderLockedError(RuntimeError):
    """Another run is writing to the same output folder."""


def fingerprint(inputs: Mapping[str, str], settings: Mapping[str, Any], code: str) -> str:
    """SHA-256 by which a piece of work is known: content of its inputs, its settings and its code.

    Neither paths nor dates enter, so a study that is moved or copied stays done.
    """
    return sha256_json({"format": FORMAT, "inputs": dict(inputs), "settings": dict(settings), "code": code})


@cache
def code_sha256(*modules: str) -> str:
    """SHA-256 of the Python source of modules and packages, given by dotted name; packages with all below them.

    Raises
    ------
    ValueError
        If a module cannot be found.
    """
    digest = sha256()
    for name in sorted(modules):
        for path, label in _sources(name):
            digest.update(f"{label}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(name: str) -> list[tuple[Path, str]]:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"modules: {name!r} cannot be found; give dotted names of Python modules")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [(origin, name)]
    folder = origin.parent
    return [(path, f"{name}/{path.relative_to(folder)}") for path in sorted(folder.rglob("*.py"))]


def _content(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_RECORD_BYTES:
        raise ValueError(f"{path} must be a file of at most {MAX_RECORD_BYTES} bytes")
    return path.read_text(encoding="utf-8")


class Manifest:
    """The records of one output folder, at `OUTPUT/.covoxel/manifest/STAGE/CASE.json`.

    Parameters
    ----------
    output
        The output folder; it is not created before something is written.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(output)

    def path(self, stage: str, case: str) -> Path:
        """Where the record of a case lies."""
        return self.output / STATE_FOLDER / "manifest" / stage / f"{case}.json"

    def read(self, stage: str, case: str) -> Record | None:
        """The record, or None if there is none or it does not validate: the work counts as not done then.

        See `record_of`. Whatever lies in the place of the file (a folder, a pipe, more than `MAX_RECORD_BYTES`) is no
        record either.
        """
        try:
            record = record_of(_content(self.path(stage, case)))
        except (OSError, ValueError, RecursionError):
            return None
        return record if (record.stage, record.case) == (stage, case) else None

    def fresh(self, stage: str, case: str, fingerprint: str) -> Record | None:
        """The record if it has this fingerprint and every output still exists with the recorded content."""
        record = self.read(stage, case)
        if record is None or record.fingerprint != fingerprint:
            return None
        return record if all(self._same(path, digest) for path, digest in record.outputs.items()) else None

    def write(self, record: Record) -> None:
        """File a record; the last act of a piece of work, whole or not at all."""
        write_text(self.path(record.stage, record.case), record_text(record))

    def forget(self, stage: str, case: str) -> None:
        """Drop a record, before its outputs are written anew; a folder in its place goes too."""
        path = self.path(stage, case)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def cases(self, stage: str) -> list[str]:
        """Ids of the cases that have a record of a stage, sorted."""
        files = self.path(stage, "x").parent.glob("[!.]*.json")  # one that starts with a dot is not finished
        return sorted(path.name.removesuffix(".json") for path in files)

    def hash_outputs(self, paths: Sequence[Path]) -> dict[str, str]:
        """SHA-256 of files in the output folder, by relative path, as a record holds them."""
        return {path.relative_to(self.output).as_posix(): sha256_file(path) for path in paths}

    def _same(self, relative: str, digest: str) -> bool:
        path = self.output / relative
        try:
            return path.is_file() and sha256_file(path) == digest  # hashing a pipe would never end
        except OSError:
            return False


class FolderLock:
    """Exclusive use of an output folder by this process, released by the kernel when the process dies.

    Within one process the lock may be taken again; the last release frees it.

    Parameters
    ----------
    output
        The output folder; created if missing.

    Raises
    ------
    FolderLockedError
        On entering, if another process holds the lock.
    OSError
        On entering, if the folder cannot be written.
    """

    _held: dict[Path, tuple[int, int]] = {}

    def __init__(self, output: Path) -> None:
        self.path = Path(output).resolve() / STATE_FOLDER / "lock"

    def __enter__(self) -> Self:
        descriptor, depth = self._held.get(self.path, (None, 0))
        if descriptor is None:
            descriptor = self._acquire()
        self._held[self.path] = (descriptor, depth + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        descriptor, depth = self._held.pop(self.path)
        if depth > 1:
            self._held[self.path] = (descriptor, depth - 1)
        else:
            os.close(descriptor)

    def holder(self) -> str | None:
        """Process id of the run that holds the lock, None if nobody does."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self.path.read_text().strip() or "unknown"
        finally:
            os.close(descriptor)
        return None

    def _acquire(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise FolderLockedError(
                f"output folder {self.path.parents[1]} is in use by another run (process {pid}); "
                "wait until it ends or name another folder"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
