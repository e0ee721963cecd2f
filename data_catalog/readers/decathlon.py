"""Medical Segmentation Decathlon: a `dataset.json` that lists pairs of image and label."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from covoxel.io.formats import image_stem
from data_catalog.listing import Account, unusable
from data_catalog.readers.base import Found, assemble, inside, peek_json, read_json, text
from data_catalog.schema import Cohort, CohortError, Rejected, Role
from data_catalog.vocabulary import vocabulary_of

NAME = "decathlon"
LOOKS_FOR = "a Medical Segmentation Decathlon dataset.json that lists its training images"
FOLDERS = ("imagesTr", "labelsTr", "imagesTs")


def detect(path: Path) -> bool:
    """Whether `dataset.json` lists `training` pairs."""
    return isinstance(peek_json(path / "dataset.json").get("training"), list)


def read(path: Path) -> Cohort:
    """Pairs under `training` are cases with labels, images under `test` are test cases; others are excluded."""
    description = read_json(path / "dataset.json")
    account = Account(path)
    found: list[Found] = []
    entries: list[tuple[Any, Role]] = [(entry, "unlabelled") for entry in _listed(description, "training")]
    entries += [(entry, "test") for entry in _listed(description, "test")]
    for entry, role in entries:
        try:
            found.append(_found(path, entry, role))
        except CohortError as error:
            account.rejected.append(Rejected(str(entry)[:80], path / "dataset.json", f"dataset.json: {error}"))
    _exclude_others(account, path, found, entries)
    account.rest("images must lie in the folders that dataset.json names", ignored=[path / "labelsTs"])
    return assemble(
        path,
        found,
        name=text(description.get("name")) or "",
        vocabulary=vocabulary_of(description.get("labels"), description.get("regions_class_order")),
        licence=text(description.get("licence")) or text(description.get("license")),
        rejected=account.rejected,
        ignored=account.ignored,
    )


def _listed(description: dict[str, Any], key: str) -> list[Any]:
    entries = description.get(key, [])
    return entries if isinstance(entries, list) else []


def _found(root: Path, entry: object, role: Role) -> Found:
    entry = entry if isinstance(entry, dict) else {"image": entry}
    image = _existing(root, entry.get("image"))
    label = _existing(root, entry["label"]) if entry.get("label") else None
    return Found(image_stem(image), image, label, role)


def _existing(root: Path, name: object) -> Path:
    path = inside(root, name)
    reason = unusable(path)
    if reason == "the file does not exist":
        raise CohortError(f"the file {name!r} is listed but does not exist")
    if reason:
        raise CohortError(f"the file {name!r} is listed, but {reason}")
    return path


def _exclude_others(account: Account, root: Path, found: Iterable[Found], entries: Iterable[tuple[Any, Role]]) -> None:
    """Exclude the images that lie in the folders of listed ones and are not listed."""
    listed = set(_paths(root, entries))
    folders = {root / name for name in FOLDERS} | {
        path.parent for item in found for path in (item.image, item.label) if path
    }
    for folder in sorted(folders):
        for path in account.listing(folder).candidates:
            if path not in listed:
                name = image_stem(path) if folder.name.startswith("images") else account.shown(path)
                account.exclude(name, path, "the file is not listed in dataset.json")


def _paths(root: Path, entries: Iterable[tuple[Any, Role]]) -> Iterable[Path]:
    """Files that entries name, there or not."""
    for entry, _ in entries:
        names = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry,)
        for name in names:
            try:
                yield inside(root, name)
            except CohortError:
                continue
