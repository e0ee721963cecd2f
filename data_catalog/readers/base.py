"""What all readers share: safe parsing, pairing of images and label maps, and turning both into a cohort."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from covoxel.io import open_regular
from covoxel.io.formats import image_stem
from data_catalog.listing import Account, is_file, relative, several, without_suffix
from data_catalog.schema import Case, Cohort, CohortError, Rejected, Role, unsafe_id
from data_catalog.vocabulary import Vocabulary, clean

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 32 * 2**20
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
    vocabulary: Vocabulary | None = None,
    licence: str | None = None,
    rejected: Iterable[Rejected] = (),
    ignored: Mapping[str, int] | None = None,
) -> Cohort:
    """Cohort of what was found: unsafe and repeated names are excluded with the reason, test labels are dropped."""
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
    title = name or (root.stem if is_file(root) else root.resolve().name)
    vocabulary = vocabulary or Vocabulary()
    return Cohort(
        title,
        root,
        tuple(cases),
        vocabulary.names,
        licence,
        _distinct(refused, taken, root),
        vocabulary.ignore,
        dict(ignored or {}),
    )


def _refusal(item: Found, taken: dict[str, Path], root: Path) -> str | None:
    reason, other = unsafe_id(item.id), taken.get(item.id.lower())
    if not reason and other is None:
        return None
    shown = relative(item.image, root)
    if reason or other is None:
        return f"{shown}: the name {item.id!r} cannot be used: {reason}; rename the file or give it an id in a table"
    return (
        f"{shown}: the case name {item.id!r} is already taken by {relative(other, root)}; "
        "each case must have its own name"
    )


def _distinct(rejected: Sequence[Rejected], cases: Collection[str], root: Path) -> tuple[Rejected, ...]:
    """Excluded entries under names that neither a case nor another one has, whatever the case of the letters."""
    taken, distinct = set(cases), []
    copies: Counter[str] = Counter()
    for item in rejected:
        shown = relative(item.path, root)
        name = item.id if item.id.lower() not in taken else shown
        while name.lower() in taken:
            copies[shown] += 1
            name = f"{shown} ({copies[shown] + 1})"
        taken.add(name.lower())
        distinct.append(item if name == item.id else replace(item, id=name))
    return tuple(distinct)


def pair(
    account: Account, labels: Iterable[tuple[str, Path]], known: Collection[str], how: str = "rename one of them"
) -> dict[str, Path]:
    """Label map of each case that has exactly one.

    Parameters
    ----------
    account
        Learns of label maps that match no image, and of several for one image.
    labels
        Name of the case, and the label map.
    known
        Names of all images that were found, used or not.
    how
        End of the sentence on several label maps: what to do.
    """
    several_of: dict[str, list[Path]] = {}
    for name, path in labels:
        if name in known:
            several_of.setdefault(name, []).append(path)
        else:
            reason = f"the label map matches no image: none is called {name}"
            account.exclude(without_suffix(account.shown(path)), path, reason)
    for name, paths in several_of.items():
        if len(paths) > 1:
            all_of_them = several(account.shown(path) for path in paths)
            reason = f"it is one of several label maps for the image {name}: {all_of_them}; none is used, {how}"
            account.exclude(f"{name} (label maps)", paths[0], reason, of_case=name)
    return {name: paths[0] for name, paths in several_of.items() if len(paths) == 1}


def pair_by_name(account: Account, labels: Iterable[Path], known: Collection[str]) -> dict[str, Path]:
    """The same for label maps that have the names of their images."""
    return pair(account, ((image_stem(path), path) for path in labels), known)


def entities(case_id: str) -> tuple[str, str]:
    """Subject and session that a BIDS-like name gives; otherwise the name itself and no session."""
    match = _ENTITIES.match(case_id)
    return (match[1], match[2] or "") if match else (case_id, "")


def read_json(path: Path) -> dict[str, Any]:
    """JSON object in a file that others wrote.

    Raises
    ------
    CohortError
        If the file cannot be read, is too large, not JSON, or not an object.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            content = json.loads(stream.read(size)) if size <= MAX_JSON_BYTES else None
    except OSError as error:
        raise CohortError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise CohortError(f"{path} is not valid JSON: lists or objects are nested too deeply") from None
    except ValueError as error:
        raise CohortError(f"{path} is not valid JSON: {error}") from error
    if size > MAX_JSON_BYTES:
        raise CohortError(f"{path} has {size} bytes; a description of a cohort must have at most {MAX_JSON_BYTES}")
    if not isinstance(content, dict):
        raise CohortError(f"{path} must hold a JSON object ({{…}}), got a {type(content).__name__}")
    return content


def peek_json(path: Path) -> dict[str, Any]:
    """As `read_json`, but {} for a file that is missing or wrong: for recognising a layout."""
    try:
        return read_json(path) if is_file(path) else {}
    except CohortError:
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
    return clean(value) or None if isinstance(value, str) else None


def report_strays(strays: Iterable[str], what: str) -> None:
    """Log names that were listed somewhere and found nowhere."""
    names = sorted(strays)
    if names:
        log.warning("%s: %s%s", what, ", ".join(names[:5]), " …" if len(names) > 5 else "")
