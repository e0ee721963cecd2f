"""What all readers share: safe listing, safe parsing, and turning what was found into a cohort."""

import csv
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_catalog.schema import IMAGE_SUFFIXES, Case, Cohort, CohortError, Rejected, Role, unsafe_id

log = logging.getLogger(__name__)

MAX_TEXT_BYTES = 64 * 2**20
_ENTITIES = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?(?:_|$)")


@dataclass(frozen=True)
class Found:
    """An image that was found, before anything about it is trusted."""

    id: str
    image: Path
    label: Path | None = None
    role: Role = "unlabelled"
    subject: str = ""
    session: str = ""
    date: str | None = None


def assemble(
    root: Path,
    found: Iterable[Found],
    *,
    name: str = "",
    label_names: dict[int, str] | None = None,
    licence: str | None = None,
    rejected: Iterable[Rejected] = (),
) -> Cohort:
    """Cohort of what was found: unsafe and repeated names are set aside with the reason, test labels are dropped."""
    cases: list[Case] = []
    refused = list(rejected)
    taken: dict[str, Path] = {}
    for item in found:
        reason = _refusal(item, taken, root)
        if reason:
            refused.append(Rejected(item.id, item.image, reason))
            continue
        taken[item.id.lower()] = item.image
        subject, session = entities(item.id)
        cases.append(
            Case(
                id=item.id,
                image=item.image,
                label=None if item.role == "test" else item.label,
                role=item.role,
                subject=item.subject or subject,
                session=item.session or session,
                date=item.date,
            )
        )
    title = name or (root.stem if root.is_file() else root.resolve().name)
    return Cohort(title, root, tuple(cases), label_names or {}, licence, tuple(refused))


def _refusal(item: Found, taken: dict[str, Path], root: Path) -> str | None:
    shown = relative(item.image, root)
    reason = unsafe_id(item.id)
    if reason:
        return f"{shown}: the name {item.id!r} cannot be used: {reason}; rename the file or give it an id in a table"
    if item.id.lower() in taken:
        other = relative(taken[item.id.lower()], root)
        return f"{shown}: the case name {item.id!r} is already taken by {other}; each case must have its own name"
    return None


def entities(case_id: str) -> tuple[str, str]:
    """Subject and session that a BIDS-like name gives; otherwise the name itself and no session."""
    match = _ENTITIES.match(case_id)
    return (match[1], match[2] or "") if match else (case_id, "")


def relative(path: Path, root: Path) -> str:
    """`path` as seen from the cohort's folder, for messages."""
    folder = root if root.is_dir() else root.parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def list_images(folder: Path) -> list[Path]:
    """NIfTI files directly in `folder`, by name, hidden ones (such as macOS leaves) left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.endswith(IMAGE_SUFFIXES) and path.is_file()
    )


def stem(path: Path | PurePosixPath) -> str:
    """File name without `.nii` or `.nii.gz`."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.name


def read_json(path: Path) -> dict[str, Any]:
    """JSON object in a file that nobody vouches for.

    Raises
    ------
    CohortError
        If the file is too large, not JSON, or not an object.
    """
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise CohortError(f"{path} has {size} bytes; a description of a cohort must have at most {MAX_TEXT_BYTES}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CohortError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CohortError(f"{path} must hold a JSON object ({{…}}), got a {type(content).__name__}")
    return content


def peek_json(path: Path) -> dict[str, Any]:
    """As `read_json`, but {} for a file that is missing or wrong: for recognising a layout."""
    try:
        return read_json(path) if path.is_file() else {}
    except (CohortError, OSError):
        return {}


def inside(root: Path, name: object) -> Path:
    """Path that a description file names, which must stay in the cohort's folder.

    Raises
    ------
    CohortError
        If `name` is not text, is absolute or leaves `root`.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise CohortError(f"a file name must be text, got {name!r}")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise CohortError(f"the file name {name!r} leads out of the cohort's folder; it must stay in it")
    return root.joinpath(*parts.parts)


def text(value: object) -> str | None:
    """Short text, or None if `value` is anything else."""
    return value.strip()[:500] or None if isinstance(value, str) else None


def label_names_from_tsv(folder: Path) -> dict[int, str]:
    """Label value to name from `labels.tsv` or `dseg.tsv` (columns index, name), or {}."""
    for path in (folder / "labels.tsv", folder / "dseg.tsv"):
        if path.is_file() and path.stat().st_size <= MAX_TEXT_BYTES:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(csv.DictReader(stream, delimiter="\t"))
            names = {int(row["index"]): row.get("name") or row["index"] for row in rows if _is_value(row.get("index"))}
            return {value: name for value, name in sorted(names.items()) if value != 0}
    return {}


def _is_value(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value.strip()) is not None


def report_strays(strays: Iterable[str], what: str) -> None:
    """Log names that were listed somewhere and found nowhere."""
    names = sorted(strays)
    if names:
        log.warning("%s: %s%s", what, ", ".join(names[:5]), " …" if len(names) > 5 else "")
