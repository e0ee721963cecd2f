"""Table cohort: a `.csv` or `.tsv` with a column `image` and, if wanted, label, id, role, subject, session, date."""

import csv
from pathlib import Path

from data_catalog.readers.base import MAX_TEXT_BYTES, Found, assemble, label_names_from_tsv, stem
from data_catalog.schema import ROLES, Cohort, CohortError, Rejected, nearest

NAME = "table"
LOOKS_FOR = "a .csv or .tsv table with a column 'image'"
COLUMNS = ("image", "label", "id", "role", "subject", "session", "date")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MISSING = ("", "n/a", "NA", "nan")


def detect(path: Path) -> bool:
    """Whether `path` is a file whose name says it is a table."""
    return path.is_file() and path.suffix.lower() in _DELIMITERS


def read(path: Path) -> Cohort:
    """One case a row; file names are relative to the table's folder.

    Raises
    ------
    CohortError
        If there is no column `image` or one is unknown.
    """
    rows = _rows(path)
    found: list[Found] = []
    rejected: list[Rejected] = []
    for number, row in enumerate(rows, start=2):
        try:
            found.append(_found(path.parent, row))
        except CohortError as error:
            name = row.get("id") or row.get("image") or f"row {number}"
            rejected.append(Rejected(name, path, f"{path.name}, line {number}: {error}"))
    return assemble(path, found, label_names=label_names_from_tsv(path.parent), rejected=rejected)


def _rows(path: Path) -> list[dict[str, str]]:
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise CohortError(f"{path} has {size} bytes; a table of cases must have at most {MAX_TEXT_BYTES}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=_DELIMITERS[path.suffix.lower()], restval="", restkey="")
            columns = list(reader.fieldnames or [])
            rows = [{key: str(value).strip() for key, value in row.items()} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read as a table: {error}") from error
    if "image" not in columns:
        raise CohortError(f"{path} must have a column 'image' with file names; it has: {', '.join(columns) or 'none'}")
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        raise CohortError(f"{path} has an unknown column {unknown[0]!r}; {nearest(unknown[0], COLUMNS)}")
    return [{key: "" if value in _MISSING else value for key, value in row.items()} for row in rows]


def _found(folder: Path, row: dict[str, str]) -> Found:
    if not row["image"]:
        raise CohortError("the column 'image' is empty; it must name a file")
    image = _existing(folder, row["image"])
    role = row.get("role") or "unlabelled"
    if role not in ROLES:
        raise CohortError(f"the role is {role!r}; it must be one of {', '.join(ROLES)}")
    label = _existing(folder, row["label"]) if row.get("label") else None
    if role == "atlas" and label is None:
        raise CohortError("an atlas must have a label; the column 'label' is empty")
    return Found(
        id=row.get("id") or stem(image),
        image=image,
        label=label,
        role="atlas" if role == "atlas" else "test" if role == "test" else "unlabelled",
        subject=row.get("subject", ""),
        session=row.get("session", ""),
        date=row.get("date") or None,
    )


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if "\0" in name or not path.exists():
        raise CohortError(f"the file {name!r} does not exist (looked for from the table's folder)")
    return path
