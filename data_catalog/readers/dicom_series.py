"""Which folders of a DICOM tree hold one series each, and why others do not."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from covoxel.io import ImageError
from covoxel.io.dicom_folder import Content, Tree
from covoxel.io.dicom_header import SeriesKey, Slice
from covoxel.io.dicom_series import along, named, scans, series_slices

_ONE_POSITION_MM = 1e-3
_UNEVEN = 0.02  # of the distance between slices


@dataclass
class Places:
    """Folders of series, and folders that are excluded.

    Parameters
    ----------
    series
        Folder to series, for each case.
    excluded
        Folder to sentence.
    beside
        Folder to the series in it that are no scan and lie beside one, in words.
    """

    series: dict[Path, SeriesKey] = field(default_factory=dict)
    excluded: dict[Path, str] = field(default_factory=dict)
    beside: dict[Path, str] = field(default_factory=dict)


def places(tree: Tree) -> Places:
    """Folders of a tree that hold one series each.

    A series may go on in folders below its own. Lies it in folders side by side, it is one case of the folder above
    them if its slices follow each other and nothing else lies there; folders that hold all of it are a case each.
    """
    found = Places()
    folders: dict[SeriesKey, dict[Path, list[Slice]]] = {}
    for content in tree.contents:
        series = scans(content.slices)
        _note(found, content, series)
        for key, slices in series.items():
            folders.setdefault(key, {})[content.folder] = slices
    for key, own in folders.items():
        _place(found, key, _by_top(own))
    return found


def _note(found: Places, content: Content, series: Mapping[SeriesKey, Sequence[Slice]]) -> None:
    """Note what excludes a folder whatever lies elsewhere."""
    rest: dict[SeriesKey, list[Slice]] = {}
    for item in content.slices:
        if item.key not in series:
            rest.setdefault(item.key, []).append(item)
    if rest:
        found.beside[content.folder] = named(rest)
    if len(series) > 1:
        words = named({key: list(slices) for key, slices in series.items()})
        found.excluded[content.folder] = (
            f"{content.folder}: the folder holds {len(series)} DICOM series ({words}); each must lie in its own folder"
        )
    elif content.broken and not series:
        more = len(content.broken) - 1
        found.excluded[content.folder] = content.broken[0][1] + (f" (and {more} more such files)" if more else "")


def _by_top(folders: Mapping[Path, list[Slice]]) -> dict[Path, list[Slice]]:
    """Slices by the folders that lie in no other folder of the series."""
    tops: dict[Path, list[Slice]] = {}
    for folder in sorted(folders):
        top = next((other for other in tops if folder.is_relative_to(other)), folder)
        tops.setdefault(top, []).extend(folders[folder])
    return tops


def _place(found: Places, key: SeriesKey, tops: Mapping[Path, list[Slice]]) -> None:
    if len(tops) == 1:
        _add(found, key, next(iter(tops)))
        return
    whole = {item.identity for slices in tops.values() for item in slices}
    complete = [top for top, slices in tops.items() if {item.identity for item in slices} == whole]
    if complete:
        for top, slices in tops.items():
            if top in complete:
                _add(found, key, top)
            else:
                part = len({item.identity for item in slices})
                found.excluded.setdefault(
                    top, f"{top}: the folder holds {part} of the {len(whole)} slices of the series in {complete[0]}"
                )
        return
    _join(found, key, tops)


def _join(found: Places, key: SeriesKey, tops: Mapping[Path, list[Slice]]) -> None:
    """Place a series of which no folder holds all slices."""
    above = Path(os.path.commonpath(tops))
    every = {item.identity: item for slices in tops.values() for item in slices}
    evenly = _is_even(sorted(every.values(), key=along))
    if not evenly and _overlap(list(tops.values())):  # scans of their own under one number
        for top in tops:
            _add(found, key, top)
        return
    if evenly and not found.excluded.keys() & tops.keys():
        try:
            if {item.identity for item in series_slices(above)} == every.keys():
                found.series[above] = key
                return
        except ImageError:
            pass  # other series lie there as well
    for top in tops:
        others = ", ".join(str(other) for other in tops if other != top)
        found.excluded.setdefault(
            top,
            f"{top}: the folder holds a part of a series that goes on in {others}; all of its slices must lie in one "
            "folder",
        )


def _add(found: Places, key: SeriesKey, folder: Path) -> None:
    if folder in found.excluded:
        return
    try:
        series_slices(folder)
    except ImageError as error:
        found.excluded[folder] = str(error)
    else:
        found.series[folder] = key


def _is_even(slices: Sequence[Slice]) -> bool:
    """Whether slices lie on one line at equal distances."""
    try:
        positions = np.stack([item.numbers("ImagePositionPatient") for item in slices])
    except ImageError:
        return False
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    beside = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * step).max()
    return bool(np.linalg.norm(step) > _ONE_POSITION_MM and beside <= _UNEVEN * np.linalg.norm(step))


def _overlap(parts: Sequence[Sequence[Slice]]) -> bool:
    """Whether the ranges of two parts overlap along the normal."""
    ranges = sorted((min(map(along, slices)), max(map(along, slices))) for slices in parts)
    return any(after[0] <= before[1] for before, after in pairwise(ranges))
