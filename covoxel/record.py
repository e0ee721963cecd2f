"""Records of finished work: JSON that carries its own SHA-256, and is validated when it is read."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from covoxel.io.atomic import json_text
from covoxel.io.hashing import sha256_json

FORMAT = 1
MAX_RECORD_BYTES = 2**28

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Record:
    """One finished piece of work.

    Parameters
    ----------
    stage, case
        What was done, to whom.
    fingerprint
        Hash of inputs, settings and code (`fingerprint`).
    inputs
        SHA-256 of the content of each input, by name.
    settings
        Settings that the result depends on; plain JSON values.
    code
        SHA-256 of the source that made it (`code_sha256`).
    outputs
        SHA-256 of each file made, by its path relative to the output folder.
    facts
        Small results (volumes, Dice, folds …), plain JSON values; what the tables are made of.
    seconds
        Wall time of the work.
    device
        "cpu" or "cuda": where it was computed. Not part of the fingerprint.
    """

    stage: str
    case: str
    fingerprint: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    code: str
    outputs: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = "cpu"


def record_text(record: Record) -> str:
    """A record as the JSON text that is filed, with the SHA-256 of its own content.

    Raises
    ------
    ValueError
        If a fact or setting is no JSON value, or the text is larger than what is read again.
    """
    content = json.loads(json_text({"format": FORMAT, **asdict(record)}))  # keys are text, as they are when read
    text = json_text({**content, "sha256": sha256_json(content)}, indent=2) + "\n"
    if len(text.encode()) > MAX_RECORD_BYTES:
        raise ValueError(f"the record of {record.case} must have at most {MAX_RECORD_BYTES} bytes")
    return text


def record_of(text: str) -> Record:
    """The record that was filed as `text`.

    Raises
    ------
    ValueError
        If it is no JSON, lacks a part, has an unknown one or one of the wrong type, holds NaN or infinity, names an
        output outside the output folder, or has another content than its own SHA-256 says. A record that
        was filed before records had a SHA-256 of their own is valid without it: nothing is computed twice.
    RecursionError
        If it is nested too deeply.
    """
    data = json.loads(text, parse_constant=_no_number)
    if not isinstance(data, dict):
        raise ValueError("a record must be a JSON object")
    is_signed, own = "sha256" in data, data.pop("sha256", None)
    if sha256_json(data) != own and is_signed:  # also refuses numbers that are too large to be finite
        raise ValueError("the record has another content than its SHA-256 says")
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"the record must be of format {FORMAT}")
    if not _KINDS.keys() - _OPTIONAL <= data.keys() <= _KINDS.keys():
        raise ValueError("a record must have its parts and no others")
    for name, value in data.items():
        if not _KINDS[name](value):
            raise ValueError(f"{name} of a record is wrong: {str(value)[:100]}")
    return Record(**data)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _are_outputs(value: object) -> bool:
    """Whether these are hashes by paths that stay in the output folder."""
    return isinstance(value, dict) and all(
        isinstance(digest, str) and _SHA256.fullmatch(digest) and _stays_inside(path) for path, digest in value.items()
    )


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return bool(path) and "\0" not in path and not parts.is_absolute() and ".." not in parts.parts


_KINDS: Mapping[str, Callable[[object], bool]] = {
    "stage": _is_text,
    "case": _is_text,
    "fingerprint": _is_text,
    "inputs": _are_texts,
    "settings": _is_mapping,
    "code": _is_text,
    "outputs": _are_outputs,
    "facts": _is_mapping,
    "seconds": _is_seconds,
    "device": _is_text,
}
"""What each part of a record must be."""
_OPTIONAL = {"facts", "seconds", "device"}


def _no_number(name: str) -> None:
    raise ValueError(f"a record must hold finite numbers, got {name}")
