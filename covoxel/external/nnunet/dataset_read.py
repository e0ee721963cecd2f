"""A plain nnU-Net data set read again, from whoever wrote it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covoxel.external.nnunet import names as files
from covoxel.external.nnunet.dataset import Dataset, DatasetCase
from covoxel.external.nnunet.errors import NnunetError

_CHANNEL = re.compile(r"(.+)_(\d{4})" + re.escape(files.ENDING))


def read_dataset(folder: Path) -> Dataset:
    """The data set in `folder`, written by `write_dataset` or by others (`.nii.gz`, one value a structure).

    A case that lacks a channel or its label map is left out, with its sentence in `failed`.

    Raises
    ------
    NnunetError
        If it has no `dataset.json` or none that is understood, or no case is left.
    """
    folder = Path(folder)
    content = read_json(folder / files.DATASET_JSON)
    labels, ignore = labels_of(folder, content)
    if content.get("file_ending") != files.ENDING:
        raise NnunetError(f"{folder} has files {content.get('file_ending')!r}, they must be {files.ENDING}")
    ours = content.get(files.OURS, {})
    values = tuple(ours.get("values", range(len(labels))))
    if len(values) != len(labels):
        raise NnunetError(f"{folder / files.DATASET_JSON} has {len(labels)} labels and {len(values)} values of them")
    names = {values[place]: name for name, place in labels.items() if place}
    channels = channels_of(folder, content)
    failed: dict[str, str] = {}
    found = _cases(folder, True, len(channels), ours.get("weights", {}), failed)
    found += _cases(folder, False, len(channels), {}, failed)
    if not found:
        raise NnunetError(f"{folder} must have a case: {next(iter(failed.values()), 'it has no images')}")
    return Dataset(folder, tuple(found), values, names, channels, ignore, bool(ours.get("canonical")), failed)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; NnunetError if it is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NnunetError(f"{path} must be a JSON file of nnU-Net: {error}") from error
    if not isinstance(content, dict):
        raise NnunetError(f"{path} must hold an object, got {type(content).__name__}")
    return content


def labels_of(where: Path, content: Mapping[str, Any]) -> tuple[dict[str, int], int | None]:
    """Name to value of nnU-Net's labels, background first, and the value to be ignored."""
    labels = content.get("labels")
    whole = isinstance(labels, dict) and all(isinstance(value, int) for value in labels.values())
    if not isinstance(labels, dict) or not whole or labels.get("background") != 0:
        raise NnunetError(f"{where} must have labels of one whole number each and background 0 (no regions)")
    ignore = labels.get("ignore")
    kept = {name: value for name, value in sorted(labels.items(), key=lambda item: item[1]) if name != "ignore"}
    if list(kept.values()) != list(range(len(kept))):
        raise NnunetError(f"{where} must have the labels 0, 1, 2, …, got {list(kept.values())}")
    return kept, ignore


def channels_of(where: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the channels, in their order."""
    channels = content.get("channel_names", content.get("modality"))
    if not isinstance(channels, dict) or not channels:
        raise NnunetError(f"{where} must have channel_names")
    return tuple(str(channels[key]) for key in sorted(channels, key=int))


def _cases(
    folder: Path, labelled: bool, channels: int, weights: Mapping[str, float], failed: dict[str, str]
) -> list[DatasetCase]:
    images = folder / ("imagesTr" if labelled else "imagesTs")
    matches = (_CHANNEL.fullmatch(path.name) for path in sorted(images.glob(f"*{files.ENDING}")))
    found = []
    for case in dict.fromkeys(match[1] for match in matches if match):
        paths = tuple(files.image_file(folder, case, channel, labelled=labelled) for channel in range(channels))
        label, confidence = files.label_file(folder, case), files.confidence_file(folder, case)
        wanted = (*paths, label) if labelled else paths
        missing = next((path for path in wanted if not path.is_file()), None)
        if missing is not None:
            failed[case] = f"{missing} does not exist; a case must have all its channels, and its label map to train"
        elif labelled:
            said = confidence if confidence.is_file() else None
            found.append(DatasetCase(case, paths, label, said, float(weights.get(case, 1.0))))
        else:
            found.append(DatasetCase(case, paths, None))
    return found
