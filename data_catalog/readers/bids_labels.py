"""Label maps in the derivatives of BIDS: `**/sub-…_dseg`, each with the name of the image that it belongs to."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from covoxel.io.formats import image_stem
from data_catalog.choice import Choice
from data_catalog.listing import Account, list_folder, walk, without_suffix

_OF_THE_LABEL = ("desc-", "space-", "label-", "seg-", "atlas-")


def find_labels(account: Account, derivatives: Path, choice: Choice) -> Iterator[tuple[str, Path]]:
    """Name of the image, and label map, of each that is chosen, by path; those in another space are ignored."""
    found: list[tuple[str, Path]] = []
    for folder, _ in walk(derivatives, look=account.listing, shallow=lambda path: False):
        found += _of_folder(account, folder, choice)
    yield from sorted(found, key=lambda item: item[1])


def _of_folder(account: Account, folder: Path, choice: Choice) -> Iterator[tuple[str, Path]]:
    listing = account.listing(folder)
    broken = dict(listing.unusable)
    for path in listing.candidates:
        name = image_stem(path)
        if not (name.startswith("sub-") and name.endswith("_dseg")):
            account.ignore("other images in derivatives")
        elif _in_other_space(name):
            account.ignore("label maps in another space")
        elif not choice.takes_label(path.relative_to(account.root)):
            account.ignore("label maps that are not chosen")
        elif path in broken:
            account.exclude(without_suffix(account.shown(path)), path, broken[path], of_case=_image_of(name, choice))
        else:
            yield _image_of(name, choice), path


def _in_other_space(name: str) -> bool:
    return "_space-" in name and "_space-T1w" not in name and "_space-orig" not in name


def _image_of(name: str, choice: Choice) -> str:
    """Name of the image of a label map: the same entities without those of the label."""
    base = name.removesuffix("_dseg").removesuffix(f"_{choice.contrast}")
    return "_".join(part for part in base.split("_") if not part.startswith(_OF_THE_LABEL))


def vocabulary_folders(derivatives: Path, labels: Iterable[Path]) -> list[Path]:
    """Folders of derivatives whose vocabulary may be that of the label maps, theirs first."""
    owners = (derivatives / path.relative_to(derivatives).parts[0] for path in labels)
    return list(dict.fromkeys([*owners, *list_folder(derivatives).folders, derivatives]))
