"""A data set written so that nnU-Net's own tools take it; what cannot be used of it is left out with a sentence."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covoxel.external.nnunet import names as files
from covoxel.external.nnunet.axes import turned
from covoxel.external.nnunet.dataset import Dataset, DatasetCase
from covoxel.external.nnunet.errors import NnunetError
from covoxel.io import ImageError, read_header, read_image, read_labels, write_image, write_json, write_labels
from covoxel.spatial import Image

log = logging.getLogger(__name__)

_BACKGROUND, _IGNORE = "background", "ignore"


def write_dataset(
    folder: Path,
    cases: Sequence[DatasetCase],
    *,
    names: Mapping[int, str],
    channels: Sequence[str] = ("image",),
    ignore_below: float = 0.0,
) -> Dataset:
    """Write a raw data set of nnU-Net, in which its own tools find all they want.

    Images are turned so that their axes are nearest to RAS. Label values are mapped onto 0, 1, 2 … in ascending order;
    `read_dataset` knows the way back. Confidences and weights are kept beside, where nnU-Net does not look. A case that
    cannot be used is left out with its sentence in `failed`, a named label that no case has with one in the log. What
    was in the folder of other cases is removed.

    Parameters
    ----------
    folder
        To be made; its name must be `DatasetNNN_Name`.
    cases
        At least one of them with labels.
    names
        Name of each label by its value, background (0) not needed.
    channels
        As of `Dataset`.
    ignore_below
        Voxels of less confidence are written as nnU-Net's ignore label, for its own tools; training here has
        `Weighting` for that. 0 writes none.

    Raises
    ------
    NnunetError
        If no case with labels can be used, ids repeat or are no names, or names of labels repeat.
    """
    folder = Path(folder)
    files.check_dataset_name(folder)
    named = {int(value): str(name) for value, name in sorted(names.items()) if int(value) != 0}
    _check(cases, named)
    failed: dict[str, str] = {}
    found = [each for case in cases if (each := _looked_at(case, named, len(channels), failed)) is not None]
    found = _of_one_kind(found, failed)
    seen = sorted({0}.union(*(each.values for each in found)))
    if not any(each.case.label for each in found):
        raise NnunetError(f"{folder} must have a case with labels: {next(iter(failed.values()), 'none was given')}")
    for value in set(named) - set(seen):
        log.warning("no case has the label %s (%s): it is left out of the data set", value, named[value])
    ignore = len(seen) if ignore_below > 0 else None
    written = [_write_case(folder, each.case, seen, ignore, ignore_below) for each in sorted(found, key=_order)]
    dataset = Dataset(
        folder,
        tuple(written),
        tuple(seen),
        {value: named[value] for value in seen if value},
        tuple(channels),
        ignore,
        failed=failed,
    )
    _remove_others(dataset)
    write_json(folder / files.DATASET_JSON, dataset_json(dataset))
    return dataset


def dataset_json(dataset: Dataset, *, weights: bool = True) -> dict[str, Any]:
    """nnU-Net's `dataset.json`, with a block of ours; `weights` of cases stand in it by id."""
    labels = {_BACKGROUND: 0} | {dataset.names[value]: place for place, value in enumerate(dataset.values) if place}
    if dataset.ignore is not None:
        labels[_IGNORE] = dataset.ignore
    ours: dict[str, Any] = {"values": list(dataset.values), "canonical": dataset.canonical}
    if weights:
        ours["weights"] = {case.id: case.weight for case in dataset.training}
    return {
        "channel_names": {str(place): name for place, name in enumerate(dataset.channels)},
        "labels": labels,
        "numTraining": len(dataset.training),
        "file_ending": files.ENDING,
        files.OURS: ours,
    }


@dataclass(frozen=True)
class _Looked:
    """A case whose files are sound: its number of axes and its label values."""

    case: DatasetCase
    axes: int
    values: frozenset[int]


def _order(looked: _Looked) -> tuple[bool, str]:
    return looked.case.label is None, looked.case.id


def _check(cases: Sequence[DatasetCase], named: Mapping[int, str]) -> None:
    ids = [case.id for case in cases]
    for case in ids:
        files.check_case_id(case)
    if len(set(ids)) < len(ids):
        raise NnunetError(f"ids of cases must differ, got {next(case for case in ids if ids.count(case) > 1)!r} twice")
    taken = [_BACKGROUND, _IGNORE, *named.values()]
    if len(set(taken)) < len(taken):
        again = next(name for name in taken if taken.count(name) > 1)
        raise NnunetError(f"names of labels must differ, and be no {_BACKGROUND} or {_IGNORE}, got {again!r} twice")


def _looked_at(case: DatasetCase, named: Mapping[int, str], channels: int, failed: dict[str, str]) -> _Looked | None:
    try:
        return _sound(case, named, channels)
    except (NnunetError, ImageError) as error:
        failed[case.id] = str(error)
        log.warning("a case is left out of the data set: %s", error)
        return None


def _sound(case: DatasetCase, named: Mapping[int, str], channels: int) -> _Looked:
    if len(case.images) != channels:
        raise NnunetError(f"{case.id} has {len(case.images)} channels, it must have {channels}, as the data set")
    grids = [read_header(path).grid for path in case.images]
    grid = grids[0]
    if grid is None:
        raise NnunetError(f"{case.images[0]} has more than three axes; a channel must be one volume")
    others = [(path, read_header(path).grid) for path in (*case.images[1:], case.label, case.confidence) if path]
    for path, other in others:
        if other is None or not other.isclose(grid, 1e-2):
            raise NnunetError(f"{path} must lie on the grid of {case.images[0]}")
    for path in case.images:
        if not bool(read_image(path).data.isfinite().all()):
            raise NnunetError(f"{path} must have finite intensities only")
    return _Looked(case, grid.ndim, _values(case, named))


def _values(case: DatasetCase, named: Mapping[int, str]) -> frozenset[int]:
    if case.label is None:
        return frozenset()
    values = frozenset(int(value) for value in torch.unique(read_labels(case.label).data))
    unknown = sorted(values - {0, *named})
    if unknown:
        raise NnunetError(f"{case.label} has the label {unknown[0]}, which has no name")
    return values


def _of_one_kind(found: Sequence[_Looked], failed: dict[str, str]) -> list[_Looked]:
    axes = [each.axes for each in found]
    usual = max(axes, key=axes.count, default=3)
    for each in found:
        if each.axes != usual:
            failed[each.case.id] = f"{each.case.images[0]} has {each.axes} axes, most of the data set have {usual}"
    return [each for each in found if each.axes == usual]


def _write_case(
    folder: Path, case: DatasetCase, values: Sequence[int], ignore: int | None, ignore_below: float
) -> DatasetCase:
    labelled = case.label is not None
    images = tuple(files.image_file(folder, case.id, c, labelled=labelled) for c in range(len(case.images)))
    for source, path in zip(case.images, images, strict=True):
        write_image(path, turned(read_image(source), canonical=True))
    if case.label is None:
        return replace(case, images=images)
    label, confidence = files.label_file(folder, case.id), files.confidence_file(folder, case.id)
    labels = turned(read_labels(case.label), canonical=True)
    places = torch.searchsorted(torch.tensor(values), labels.data.contiguous())
    if case.confidence is not None:
        said = turned(read_image(case.confidence), canonical=True)
        write_image(confidence, said)
        places = _ignored(places, said.data, ignore, ignore_below)
    write_labels(label, Image(places, labels.grid))
    return replace(case, images=images, label=label, confidence=confidence if case.confidence else None)


def _ignored(places: Tensor, confidence: Tensor, ignore: int | None, below: float) -> Tensor:
    return places if ignore is None else places.masked_fill(confidence < below, ignore)


def _remove_others(dataset: Dataset) -> None:
    mine = {path for case in dataset.cases for path in _files_of(case)}
    for name in ("imagesTr", "imagesTs", "labelsTr", files.CONFIDENCES):
        for path in (dataset.folder / name).glob(f"*{files.ENDING}"):
            if path not in mine:
                path.unlink()


def _files_of(case: DatasetCase) -> Iterable[Path]:
    yield from case.images
    yield from (path for path in (case.label, case.confidence) if path is not None)
