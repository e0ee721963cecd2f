"""Tables as TSV (or CSV) files, in the manner of BIDS: `n/a` for missing, the same table gives the same bytes."""

import csv
import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from covoxel.io.atomic import write_text
from covoxel.io.table_text import MOST_BYTES, TableError, read_cells

_SEPARATORS = {".tsv": "\t", ".csv": ","}
_MISSING = "n/a"
_TEXT_COLUMNS = frozenset({"id", "case", "subject", "session", "date", "name", "structure", "reason"})
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?|-?inf")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+(,[0-9]+)?")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `table` to `path` atomically, without its index.

    Parameters
    ----------
    path
        Ends in `.tsv` or `.csv`.
    table
        Floats are written with six significant digits (whole numbers with all of theirs), truth values as
        `true` and `false`, missing values as `n/a`.
    """
    text = table.map(_cell).to_csv(sep=_separator(path), index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    write_text(path, text)


def read_table(path: Path, *, text: Collection[str] = (), most_bytes: int = MOST_BYTES) -> pd.DataFrame:
    """Read a `.tsv` or `.csv` table.

    Parameters
    ----------
    path
        Text in any of the encodings of `read_rows` whose first line names the columns.
    text
        Names of further columns that are text even if they look like numbers.
    most_bytes
        A larger file is refused.

    Returns
    -------
    DataFrame
        A column is numbers (or truth values) if all of it is written as such, otherwise text: `007` stays `007`.
        Identifiers (`id`, `case`, `subject`, `session`, `date`, `name`, `structure`, `reason`, `..._id`,
        `...sha256`) are always text. An empty cell and `n/a` are missing. With semicolons between cells, as
        spreadsheets write them where the decimal mark is a comma, `1,5` is a number.

    Raises
    ------
    TableError
        If the file is no such table; the sentence names the file.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    cells = read_cells(path, _separator(path), most_bytes)
    table = pd.DataFrame([values for _, values in cells.rows], columns=list(cells.columns), dtype=object)
    table = table.mask(table.isin([_MISSING, ""]))
    for name in table.columns:
        if not _is_text(str(name), text):
            table[name] = _typed(_with_points(table[name]) if cells.separator == ";" else table[name])
    return table


def read_rows(path: Path, *, most_bytes: int = MOST_BYTES) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a `.tsv` or `.csv` table as text.

    Parameters
    ----------
    path
        UTF-8, UTF-16 or UTF-32 (with or without a byte order mark), otherwise Windows-1252 or Latin-1; lines may end
        in any way. A `.csv` may have semicolons or tabs for commas.
    most_bytes
        A larger file is refused.

    Returns
    -------
    columns, rows
        Names of the columns, and of each row its line in the file and its cells by column, without outer spaces.

    Raises
    ------
    TableError
        If the file is no such table; the sentence names the file.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    cells = read_cells(path, _separator(path), most_bytes)
    rows = [
        (line, {name: value.strip() for name, value in zip(cells.columns, values, strict=True)})
        for line, values in cells.rows
    ]
    return list(cells.columns), rows


def _separator(path: Path) -> str:
    separator = _SEPARATORS.get(Path(path).suffix.lower())
    if separator is None:
        raise TableError(f"{path} must end in .tsv or .csv, got {Path(path).suffix!r}")
    return separator


def _is_text(name: str, text: Collection[str]) -> bool:
    return name in text or name in _TEXT_COLUMNS or name.endswith(("_id", "sha256"))


def _cell(value: object) -> str:
    if isinstance(value, bool) or type(value).__name__ in {"bool", "bool_"}:
        return "true" if value else "false"
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return _MISSING
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else f"{value:.6g}"
    return str(value)


def _typed(column: "pd.Series[str]") -> "pd.Series[str] | pd.Series[float] | pd.Series[int] | pd.Series[bool]":
    present = column.dropna()
    if present.empty:
        return column
    values = set(present)
    if len(present) == len(column) and values <= {"true", "false"}:
        return column == "true"
    if all(_INTEGER.fullmatch(value) for value in values) and len(present) == len(column):
        return column.astype("int64")
    if all(_NUMBER.fullmatch(value) for value in values):
        return column.astype("float64")
    return column


def _with_points(column: "pd.Series[str]") -> "pd.Series[str]":
    """A column of numbers with decimal commas, with points; any other as it is."""
    present = column.dropna()
    if not all(_DECIMAL_COMMA.fullmatch(value) for value in present):
        return column
    return column.str.replace(",", ".", regex=False)
