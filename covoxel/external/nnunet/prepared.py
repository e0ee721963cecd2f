"""Prepared cases: what nnU-Net's preprocessor makes of a case, in files that hold no code and are mapped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covoxel.io import atomic_path, write_json

ANNOTATED = -1
"""Stands among the places for every voxel that has a label, where some have none."""


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as a training reads it; arrays `(channel, z, y, x)` in nnU-Net's order of axes.

    Parameters
    ----------
    data
        float32.
    labels
        int16; -1 outside of the image's content.
    confidence
        float16, 0 to 1; None of a hand-labelled case. 0 where the label is to be ignored.
    places
        Voxels of each label, `(n, 4)` int32: 0, z, y, x.
    """

    data: NDArray[np.float32]
    labels: NDArray[np.int16]
    confidence: NDArray[np.float16] | None
    places: Mapping[int, NDArray[np.int32]]


def is_prepared(folder: Path, case: str, key: str) -> bool:
    """Whether the files of a case are there and were made from what `key` stands for."""
    try:
        return bool(json.loads(_about(folder, case).read_text(encoding="utf-8"))["key"] == key)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def save_prepared(folder: Path, case: str, key: str, prepared: PreparedCase) -> None:
    """Write the files of a case, that which says so last."""
    _about(folder, case).unlink(missing_ok=True)
    found = [np.concatenate([np.full((len(p), 1), value), p], 1) for value, p in prepared.places.items() if len(p)]
    places = np.concatenate(found).astype(np.int32) if found else np.zeros((0, 5), np.int32)
    arrays: dict[str, Any] = {"data": prepared.data, "labels": prepared.labels, "places": places}
    if prepared.confidence is not None:
        arrays["confidence"] = prepared.confidence
    for name, array in arrays.items():
        with atomic_path(_array(folder, case, name)) as temporary:
            np.save(temporary, array, allow_pickle=False)
    labels = sorted(int(value) for value in prepared.places)
    about = {"key": key, "labels": labels, "shape": list(prepared.data.shape), "arrays": sorted(arrays)}
    write_json(_about(folder, case), about)


def load_prepared(folder: Path, case: str) -> PreparedCase:
    """The files of a case, mapped: pages are read when they are used and given back when memory is short."""
    about = json.loads(_about(folder, case).read_text(encoding="utf-8"))
    arrays = {name: np.load(_array(folder, case, name), mmap_mode="r", allow_pickle=False) for name in about["arrays"]}
    places = arrays["places"]
    by_label = {value: places[places[:, 0] == value, 1:] for value in about["labels"]}
    return PreparedCase(arrays["data"], arrays["labels"], arrays.get("confidence"), by_label)


def labels_in(folder: Path, case: str) -> set[int]:
    """Labels of which a case has a voxel."""
    return {value for value, places in load_prepared(folder, case).places.items() if len(places)}


def shape_of(folder: Path, case: str) -> tuple[int, ...]:
    """Sides of a case with its channels."""
    return tuple(json.loads(_about(folder, case).read_text(encoding="utf-8"))["shape"])


def _about(folder: Path, case: str) -> Path:
    return folder / f"{case}.json"


def _array(folder: Path, case: str, name: str) -> Path:
    return folder / f"{case}.{name}.npy"
