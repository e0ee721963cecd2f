"""Medical Segmentation Decathlon: `dataset.json` that lists pairs of image and label."""

from pathlib import Path
from typing import Any

from data_catalog.readers.base import Found, assemble, inside, peek_json, read_json, stem, text
from data_catalog.schema import Cohort, CohortError, Rejected, Role

NAME = "decathlon"
LOOKS_FOR = "a Medical Segmentation Decathlon dataset.json that lists its training images"


def detect(path: Path) -> bool:
    """Whether `dataset.json` lists `training` pairs."""
    return isinstance(peek_json(path / "dataset.json").get("training"), list)


def read(path: Path) -> Cohort:
    """Pairs under `training` are cases with labels, images under `test` are test cases."""
    description = read_json(path / "dataset.json")
    found: list[Found] = []
    rejected: list[Rejected] = []
    entries: list[tuple[Any, Role]] = [(entry, "unlabelled") for entry in _listed(description, "training")]
    entries += [(entry, "test") for entry in _listed(description, "test")]
    for entry, role in entries:
        try:
            found.append(_found(path, entry, role))
        except CohortError as error:
            shown = str(entry)[:80]
            rejected.append(Rejected(shown, path / "dataset.json", f"dataset.json: {error}"))
    return assemble(
        path,
        found,
        name=text(description.get("name")) or "",
        label_names=_label_names(description.get("labels")),
        licence=text(description.get("licence")) or text(description.get("license")),
        rejected=rejected,
    )


def _listed(description: dict[str, Any], key: str) -> list[Any]:
    entries = description.get(key, [])
    return entries if isinstance(entries, list) else []


def _found(root: Path, entry: object, role: Role) -> Found:
    entry = entry if isinstance(entry, dict) else {"image": entry}
    image = _existing(root, entry.get("image"))
    label = _existing(root, entry["label"]) if entry.get("label") else None
    return Found(stem(image), image, label, role)


def _existing(root: Path, name: object) -> Path:
    path = inside(root, name)
    if not path.is_file():
        raise CohortError(f"the file {name!r} is listed but does not exist")
    return path


def _label_names(labels: object) -> dict[int, str]:
    if not isinstance(labels, dict):
        return {}
    names = {int(value): str(name) for value, name in labels.items() if str(value).isdecimal()}
    return {value: name for value, name in sorted(names.items()) if value != 0}
