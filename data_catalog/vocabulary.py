"""Names of label values as other tools write them: nnU-Net's regions and `ignore`, the Decathlon's, tables."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from covoxel.io import TableError, read_rows
from data_catalog.listing import is_file
from data_catalog.schema import printable

log = logging.getLogger(__name__)

MAX_TEXT_BYTES = 64 * 2**20
LARGEST = 2**31 - 1
TABLES = ("labels.tsv", "dseg.tsv")
_VALUE = re.compile(r"(\d{1,10})(\.0*)?")


@dataclass(frozen=True)
class Vocabulary:
    """What label values mean.

    Parameters
    ----------
    names
        Name of the structure of each value, ascending, background left out.
    ignore
        Value of voxels without a label; None if there is none.
    """

    names: dict[int, str] = field(default_factory=dict)
    ignore: int | None = None


def vocabulary_of(labels: object, order: object = None) -> Vocabulary:
    """Vocabulary of the entry `labels` of a `dataset.json`.

    Names lead to values (nnU-Net 2), values to names (nnU-Net 1, Decathlon), or names to the values of a region. A
    value is named after the region that `order` (`regions_class_order`) gives it, otherwise after the smallest region
    that holds it. The name `ignore` is no structure. Entries of another form are left out.
    """
    if not isinstance(labels, Mapping):
        return Vocabulary()
    regions = _regions(labels)
    ignored = [values[0] for name, values in regions if name.strip().lower() == "ignore" and len(values) == 1]
    ignore = next((value for value in ignored if value), None)
    regions = [(name, values) for name, values in regions if name.strip().lower() != "ignore" and any(values)]
    names = {value: _smallest(regions, value) for value in sorted({v for _, values in regions for v in values})}
    if isinstance(order, list) and len(order) == len(regions) and any(len(values) > 1 for _, values in regions):
        names |= {value: name for value, (name, _) in zip(order, regions, strict=True) if _is_value(value, names)}
    return Vocabulary({value: name for value, name in names.items() if value not in (0, ignore)}, ignore)


def vocabulary_from_tables(folder: Path) -> Vocabulary:
    """Vocabulary of `labels.tsv` or `dseg.tsv` (columns index, name) in `folder`; a bad table is a warning only."""
    for path in (folder / name for name in TABLES):
        if is_file(path):
            try:
                return Vocabulary(_names(path))
            except (TableError, OSError) as error:
                log.warning("names of structures are not known: %s", error)
    return Vocabulary()


def _names(path: Path) -> dict[int, str]:
    columns, rows = read_rows(path, most_bytes=MAX_TEXT_BYTES)
    by_name = {column.lower(): column for column in columns}
    if "index" not in by_name:
        raise TableError(f"{path} must have the columns index and name; it has: {', '.join(columns[:5]) or 'none'}")
    index, name = by_name["index"], by_name.get("name", by_name["index"])
    names: dict[int, str] = {}
    for _, row in rows:
        value = _whole(row[index])
        if value:
            names.setdefault(value, clean(row[name]) or str(value))
    return dict(sorted(names.items()))


def _regions(labels: Mapping[object, object]) -> list[tuple[str, list[int]]]:
    """Name and values of each entry; those of no known form are left out."""
    regions = []
    for key, entry in labels.items():
        if isinstance(entry, list):
            values = [_whole(value) for value in entry]
            name = str(key)
        elif isinstance(entry, str) and _whole(key) is not None:
            values, name = [_whole(key)], entry
        else:
            values, name = [_whole(entry)], str(key)
        known = [value for value in values if value is not None]
        if known:
            regions.append((clean(name) or str(known[0]), known))
    return regions


def _smallest(regions: list[tuple[str, list[int]]], value: int) -> str:
    """Name of the smallest region that holds a value; of several the first."""
    return min((len(set(values)), place, name) for place, (name, values) in enumerate(regions) if value in values)[2]


def _is_value(value: object, names: Mapping[int, str]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in names


def _whole(value: object) -> int | None:
    """A label value: a whole number from 0, or text that is one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _VALUE.fullmatch(str(value).strip())
    return int(found[1]) if found and int(found[1]) <= LARGEST else None


def clean(name: str) -> str:
    """A name of at most 500 characters that every table takes."""
    return printable(name.strip()[:500])
