"""Text of a table file into cells: encoding, separator, header and limits; every fault is one sentence."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from covoxel.io.regular import open_regular

MOST_BYTES = 256 * 2**20
MOST_COLUMNS = 4096
_MOST_HEADER = 2**20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_DECLARED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


class TableError(ValueError):
    """A file is no table that can be read; the message is one sentence naming the file and the rule."""


@dataclass(frozen=True)
class Cells:
    """Cells of a table as text.

    Parameters
    ----------
    columns
        Names of the columns, each once; columns without a name are left out.
    rows
        Line in the file (from 1) and cells, one a column; empty lines are left out.
    separator
        What separates the cells in the file.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    separator: str


def read_cells(path: Path, separator: str, most_bytes: int = MOST_BYTES) -> Cells:
    """Cells of the table at `path`; its header is checked before anything else is taken apart.

    Raises
    ------
    TableError
        If it is too large, no text, has no header line, too many columns, one column twice, or a row of too many
        cells.
    OSError
        If it cannot be read.
    """
    text = _decoded(path, _bytes(path, most_bytes))
    declared = _DECLARED.match(text)
    text = text[declared.end() :] if declared else text
    separator = declared[1] if declared else _separator(text, separator)
    _check_width(path, text, separator)
    lines = _lines(path, text, separator)
    first = next(lines, None)
    if first is None:
        raise TableError(f"{path} must be a table with one header line, got an empty file")
    names = [name.strip() for name in first[1]]
    _check_names(path, names)
    kept = [index for index, name in enumerate(names) if name]
    skipped = 1 if declared else 0
    rows = ((line + skipped, _row(path, line + skipped, cells, len(names), kept)) for line, cells in lines)
    return Cells(tuple(names[index] for index in kept), tuple(rows), separator)


def _bytes(path: Path, most_bytes: int) -> bytes:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise TableError(f"{path} has more than {most_bytes} bytes, which a table must not have")
        return file.read(size)


def _decoded(path: Path, content: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _unmarked(content)
    for name in (encoding, "cp1252", "latin-1"):
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        if "\0" in text or (name != encoding and _CONTROL.search(text)):
            break
        return text
    raise TableError(f"{path} must be a table of text, but it holds bytes that are no text")


def _unmarked(content: bytes) -> str:
    """Encoding of bytes without a byte order mark: UTF-16 where every other byte of the first ones is 0."""
    if len(content) % 2 == 0 and len(content) >= 4:
        start = content[:16]
        if not any(start[1::2]) and all(start[::2]):
            return "utf-16-le"
        if not any(start[::2]) and all(start[1::2]):
            return "utf-16-be"
    return "utf-8"


def _separator(text: str, expected: str) -> str:
    """`expected`, or for a comma what spreadsheets write in its place."""
    header = _header(text)
    if expected != "," or "," in header:
        return ";" if expected == "," and header.count(";") > header.count(",") else expected
    return next((mark for mark in (";", "\t") if mark in header), expected)


def _header(text: str) -> str:
    end = re.search(r"[\r\n]", text[:_MOST_HEADER])
    return text[: end.start() if end else _MOST_HEADER]


def _check_width(path: Path, text: str, separator: str) -> None:
    """Refuse a header of too many columns before it is taken apart."""
    columns = _header(text).count(separator) + 1
    if columns > MOST_COLUMNS:
        raise TableError(f"{path} has {columns} columns or more; a table must have at most {MOST_COLUMNS}")


def _lines(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each line that is not empty, the header's first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TableError(f"{path} must be a table with one header line; line {line}: {error}") from None
        if cells is None:
            return
        if cells:
            yield line, cells


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in filter(None, names):
        if name in seen:
            raise TableError(f"{path} has the column {name!r} twice; each column must have its own name")
        seen.add(name)


def _row(path: Path, line: int, cells: list[str], columns: int, kept: Sequence[int]) -> list[str]:
    if any(cell.strip() for cell in cells[columns:]):
        raise TableError(
            f"{path} must be a table with one header line; line {line} has {len(cells)} cells and the header {columns}"
        )
    cells = cells + [""] * (columns - len(cells))
    return [cells[index] for index in kept]
