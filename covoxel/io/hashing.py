"""Content hashes of files and of settings."""

import hashlib
from pathlib import Path

from covoxel.io.atomic import json_text
from covoxel.io.regular import open_regular


def sha256_file(path: Path) -> str:
    """SHA-256 of the bytes of the regular file `path`, 64 hexadecimal digits; OSError for a pipe or a device."""
    with open_regular(Path(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(obj: object) -> str:
    """SHA-256 of the canonical JSON text of `obj` (sorted keys, no spaces), 64 hexadecimal digits.

    Raises
    ------
    ValueError
        If `obj` holds something JSON cannot say, NaN and infinity included.
    """
    return hashlib.sha256(json_text(obj).encode("utf-8")).hexdigest()
