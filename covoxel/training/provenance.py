"""Which code a training ran with."""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import covoxel

_PARTS = ("losses", "spatial", "training")


def provenance(network: object) -> dict[str, Any]:
    """Versions of covoxel and torch, and a hash over the sources that decide what `network` learns."""
    root = Path(covoxel.__file__).parent
    files = sorted(path for part in _PARTS for path in (root / part).rglob("*.py"))
    names = [str(path.relative_to(root)) for path in files]
    source = _source_of(network)
    if source is not None:
        names, files = [*names, source.name], [*files, source]
    return {"covoxel": covoxel.__version__, "torch": torch.__version__, "code": _hash(names, files)}


def _source_of(network: object) -> Path | None:
    try:
        found = inspect.getsourcefile(type(network))
    except TypeError:
        return None
    return None if found is None else Path(found)


def _hash(names: Sequence[str], files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for name, path in zip(names, files, strict=True):
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
