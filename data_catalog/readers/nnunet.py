"""nnU-Net raw data: `imagesTr/`, `labelsTr/`, `imagesTs/` and a `dataset.json` with channel names."""

import logging
import re
from pathlib import Path
from typing import Any

from data_catalog.readers.base import Found, assemble, list_images, peek_json, read_json, stem, text
from data_catalog.schema import Cohort, Role

NAME = "nnunet"
LOOKS_FOR = "nnU-Net raw data (imagesTr/ and a dataset.json with channel_names and file_ending)"
_CHANNEL = re.compile(r"_(\d{4})$")

log = logging.getLogger(__name__)


def detect(path: Path) -> bool:
    """Whether `dataset.json` is nnU-Net's (version 2 or 1) and image files end in a channel number."""
    description = peek_json(path / "dataset.json")
    return "file_ending" in description or "channel_names" in description or _numbered(path / "imagesTr")


def _numbered(folder: Path) -> bool:
    images = list_images(folder)
    return bool(images) and all(_CHANNEL.search(stem(image)) for image in images)


def read(path: Path) -> Cohort:
    """Channel 0 of every case; `imagesTr` with their labels, `imagesTs` as test cases."""
    description = read_json(path / "dataset.json") if (path / "dataset.json").is_file() else {}
    labels = {stem(label): label for label in list_images(path / "labelsTr")}
    found: list[Found] = []
    folders: list[tuple[str, Role]] = [("imagesTr", "unlabelled"), ("imagesTs", "test")]
    for folder, role in folders:
        for image in list_images(path / folder):
            case_id, channel = _split(image)
            if channel == 0:
                found.append(Found(case_id, image, labels.get(case_id), role))
    channels = _channels(description)
    if len(channels) > 1:
        log.warning("%s has %d channels; the first, %s, is used", path.name, len(channels), channels[0])
    return assemble(
        path,
        found,
        name=text(description.get("name")) or "",
        label_names=_label_names(description.get("labels")),
        licence=text(description.get("licence")) or text(description.get("license")),
    )


def _split(image: Path) -> tuple[str, int]:
    match = _CHANNEL.search(stem(image))
    return (stem(image)[: match.start()], int(match[1])) if match else (stem(image), 0)


def _channels(description: dict[str, Any]) -> list[str]:
    channels = description.get("channel_names", description.get("modality"))
    return [str(name) for name in channels.values()] if isinstance(channels, dict) else []


def _label_names(labels: object) -> dict[int, str]:
    """Version 2 writes name to value, version 1 value to name; regions (several values) have no single name."""
    if not isinstance(labels, dict):
        return {}
    names: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, int):
            names[value] = str(key)
        elif str(key).isdecimal() and isinstance(value, str):
            names[int(key)] = value
    return {value: name for value, name in sorted(names.items()) if value != 0}
