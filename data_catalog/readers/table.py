"""Table cohort: a `.csv` or `.tsv` with a column `image` and, if wanted, label, id, role, subject, session, date."""

from pathlib import Path

from covoxel.io import TableError, read_rows
from covoxel.io.formats import image_stem
from data_catalog.listing import is_file, unusable
from data_catalog.readers.base import Found, assemble
from data_catalog.schema import ROLES, Cohort, CohortError, Rejected, nearest
from data_catalog.vocabulary import MAX_TEXT_BYTES, vocabulary_from_tables

NAME = "table"
LOOKS_FOR = "a .csv or .tsv table with a column 'image'"
COLUMNS = ("image", "label", "id", "role", "subject", "session", "date")
_SUFFIXES = (".csv", ".tsv")
_MISSING = ("", "n/a", "NA", "nan")


def detect(path: Path) -> bool:
    """Whether `path` is a file whose name ends as that of a table."""
    return is_file(path) and path.suffix.lower() in _SUFFIXES


def read(path: Path) -> Cohort:
    """One case a row; file names are relative to the table's folder.

    Raises
    ------
    CohortError
        If it cannot be read, there is no column `image` or one is unknown.
    """
    found: list[Found] = []
    rejected: list[Rejected] = []
    for line, row in _rows(path):
        try:
            found.append(_found(path.parent, row))
        except CohortError as error:
            name = row.get("id") or row.get("image") or f"line {line}"
            rejected.append(Rejected(name, path, f"{path.name}, line {line}: {error}"))
    return assemble(path, found, vocabulary=vocabulary_from_tables(path.parent), rejected=rejected)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        columns, rows = read_rows(path, most_bytes=MAX_TEXT_BYTES)
    except OSError as error:
        raise CohortError(f"{path} cannot be read: {error.strerror or error}") from error
    except TableError as error:
        raise CohortError(str(error)) from error
    if "image" not in columns:
        shown = ", ".join(columns[:10]) or "none"
        raise CohortError(f"{path} must have a column 'image' with file names; it has: {shown}")
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        raise CohortError(f"{path} has an unknown column {unknown[0]!r}; {nearest(unknown[0], COLUMNS)}")
    return [(line, {key: "" if value in _MISSING else value for key, value in row.items()}) for line, row in rows]


def _found(folder: Path, row: dict[str, str]) -> Found:
    if not row["image"]:
        raise CohortError("the column 'image' is empty; it must name a file")
    image = _existing(folder, row["image"], or_folder=True)
    role = row.get("role") or "unlabelled"
    if role not in ROLES:
        raise CohortError(f"the role is {role!r}; it must be one of {', '.join(ROLES)}")
    label = _existing(folder, row["label"]) if row.get("label") else None
    if role == "atlas" and label is None:
        raise CohortError("an atlas must have a label; the column 'label' is empty")
    if label == image:
        raise CohortError(f"image and label are the same file {row['image']!r}; a label map must be a file of its own")
    return Found(
        id=row.get("id") or image_stem(image),
        image=image,
        label=label,
        role="atlas" if role == "atlas" else "test" if role == "test" else "unlabelled",
        subject=row.get("subject", ""),
        session=row.get("session", ""),
        date=row.get("date") or None,
    )


def _existing(folder: Path, name: str, or_folder: bool = False) -> Path:
    path = folder / name
    reason = unusable(path, folder=or_folder)
    if reason == "the file does not exist":
        raise CohortError(f"the file {name!r} does not exist (looked for from the table's folder)")
    if reason:
        raise CohortError(f"the file {name!r} cannot be used: {reason}")
    return path
