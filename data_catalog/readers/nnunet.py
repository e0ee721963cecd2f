"""nnU-Net raw data: `imagesTr/`, `labelsTr/`, `imagesTs/` and a `dataset.json` with channel names."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from covoxel.io.formats import image_stem, image_suffix
from data_catalog.listing import Account, holds_images, is_file, list_folder, without_suffix
from data_catalog.readers.base import Found, assemble, pair_by_name, peek_json, read_json, text
from data_catalog.schema import Cohort, Role
from data_catalog.vocabulary import vocabulary_of

NAME = "nnunet"
LOOKS_FOR = "nnU-Net raw data (imagesTr/ and a dataset.json with channel_names and file_ending)"
RULE = "images must lie directly in imagesTr/ or imagesTs/, label maps in labelsTr/"
_FOLDERS: tuple[tuple[str, Role], ...] = (("imagesTr", "unlabelled"), ("imagesTs", "test"))
_CHANNEL = re.compile(r"_(\d{4})$")

log = logging.getLogger(__name__)


def detect(path: Path) -> bool:
    """Whether `dataset.json` is nnU-Net's (version 2 or 1) and image files end in a channel number."""
    description = peek_json(path / "dataset.json")
    return "file_ending" in description or "channel_names" in description or _numbered(path / "imagesTr")


def _numbered(folder: Path) -> bool:
    images = list_folder(folder).candidates if holds_images(folder) else []
    return bool(images) and all(_CHANNEL.search(image_stem(image)) for image in images)


def read(path: Path) -> Cohort:
    """Channel 0 of every case; `imagesTr` with their labels, `imagesTs` as test cases."""
    account = Account(path)
    description = read_json(path / "dataset.json") if is_file(path / "dataset.json") else {}
    ending = (text(description.get("file_ending")) or "").lower()
    images = {folder: list(_first_channels(account, path / folder, ending)) for folder, _ in _FOLDERS}
    known = {_split(image)[0] for image in account.listing(path / "imagesTr").candidates}
    labels = pair_by_name(account, _labels(account, path / "labelsTr", ending), known)
    found = [
        Found(case_id, image, labels.get(case_id), role)
        for folder, role in _FOLDERS
        for case_id, image in images[folder]
    ]
    channels = _channels(description)
    if len(channels) > 1:
        log.warning("%s has %d channels; the first, %s, is used", path.name, len(channels), channels[0])
    account.rest(RULE, ignored=[path / "labelsTs"])
    return assemble(
        path,
        found,
        name=text(description.get("name")) or "",
        vocabulary=vocabulary_of(description.get("labels"), description.get("regions_class_order")),
        licence=text(description.get("licence")) or text(description.get("license")),
        rejected=account.rejected,
        ignored=account.ignored,
    )


def _first_channels(account: Account, folder: Path, ending: str) -> Iterator[tuple[str, Path]]:
    """Case and file of each first channel; cases without one, and files of another ending, are excluded."""
    of_case: dict[str, dict[int, Path]] = {}
    broken = {_split(path)[0] for path, _ in account.listing(folder).unusable}
    for image in account.images(folder, lambda path: _split(path)[0]):
        case_id, channel = _split(image)
        if _has_ending(account, image, ending, case_id):
            of_case.setdefault(case_id, {}).setdefault(channel, image)
        else:
            broken.add(case_id)
    for case_id, channels in of_case.items():
        if 0 in channels:
            yield case_id, channels[0]
            account.ignore("further channels", len(channels) - 1)
        elif case_id in broken:
            account.ignore("further channels", len(channels))
        else:
            numbers = ", ".join(f"{channel:04d}" for channel in sorted(channels))
            reason = f"the first channel, 0000, of case {case_id} is missing (there is {numbers})"
            account.exclude(case_id, channels[min(channels)], reason)


def _labels(account: Account, folder: Path, ending: str) -> list[Path]:
    return [path for path in account.labels(folder) if _has_ending(account, path, ending, image_stem(path), True)]


def _has_ending(account: Account, path: Path, ending: str, case_id: str, is_label: bool = False) -> bool:
    """Whether a file has the ending that `dataset.json` names, if it names one; otherwise it is excluded."""
    if not ending or path.name.lower().endswith(ending):
        return True
    reason = f"the file ends in {image_suffix(path)}, but dataset.json names the file_ending {ending}"
    name = without_suffix(account.shown(path)) if is_label else case_id
    account.exclude(name, path, reason, of_case=case_id if is_label else "")
    return False


def _split(image: Path) -> tuple[str, int]:
    name = image_stem(image)
    match = _CHANNEL.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, 0)


def _channels(description: dict[str, Any]) -> list[str]:
    channels = description.get("channel_names", description.get("modality"))
    return [str(name) for name in channels.values()] if isinstance(channels, dict) else []
