"""BIDS: images of one contrast under `sub-*/[ses-*/]anat`, label maps under `derivatives`."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from covoxel.io import TableError, read_rows
from covoxel.io.formats import image_stem
from data_catalog.choice import Choice
from data_catalog.confine import leads_out
from data_catalog.listing import SHOWN, Account, Listing, is_file, list_folder, several
from data_catalog.readers.base import Found, assemble, entities, pair, peek_json, text
from data_catalog.readers.bids_labels import find_labels, vocabulary_folders
from data_catalog.schema import Cohort
from data_catalog.vocabulary import MAX_TEXT_BYTES, Vocabulary, vocabulary_from_tables

NAME = "bids"
LOOKS_FOR = "BIDS (sub-*/[ses-*/]anat/*_T1w.nii.gz)"
RULE = "images must lie in sub-*/[ses-*/]anat, their label maps in derivatives"
IGNORED = ("sourcedata", "rawdata", "code", "stimuli", "phenotype")
"""Folders of the standard that are left out on purpose."""
_NO_IMAGES = ("dseg", "mask", "probseg", "defacemask")
_SEVERAL = "choose by the setting cohort.label, such as label: desc-manual, or name the label maps in a table"

log = logging.getLogger(__name__)


def detect(path: Path) -> bool:
    """Whether a subject's `anat` folder holds an image, or may do so and cannot be read."""
    root = list_folder(path)
    for _, listing in _anat_folders(root):
        if any(_contrast(file) not in _NO_IMAGES for file in listing.candidates):
            return True
    closed = (listing.error for subject in _subjects(root) for listing in (list_folder(subject),))
    return not root.candidates and any(closed)


def read(path: Path, choice: Choice = Choice()) -> Cohort:  # noqa: B008 (frozen)
    """One case an image of the chosen contrast (and run); its label is `derivatives/**/sub-…_dseg` of its entities."""
    account = Account(path)
    known: set[str] = set()
    found = [item for subject in _all_subjects(account, path) for item in _of_subject(account, subject, choice, known)]
    labels = pair(account, find_labels(account, path / "derivatives", choice), known, _SEVERAL)
    dates = _dates(account, [item.image for item in found], choice)
    found = [
        Found(
            item.id,
            item.image,
            labels.get(item.id),
            subject=item.subject,
            session=item.session,
            date=dates.get((item.subject, item.session)),
        )
        for item in found
    ]
    account.exclude_folder(path, Listing(account.listing(path).images, unusable=account.listing(path).unusable), RULE)
    skip = [path / "derivatives", *_subjects(account.listing(path))]
    account.rest(RULE, skip=skip, ignored=[path / name for name in IGNORED])
    description = peek_json(path / "dataset_description.json")
    return assemble(
        path,
        found,
        name=text(description.get("Name")) or "",
        vocabulary=_vocabulary(path, list(labels.values()), choice),
        licence=text(description.get("License")),
        rejected=account.rejected,
        ignored=account.ignored,
    )


def _subjects(root: Listing) -> list[Path]:
    return [folder for folder in root.folders if folder.name.startswith("sub-")]


def _anat_folders(root: Listing) -> Iterator[tuple[Path, Listing]]:
    """The `anat` folders of all subjects and sessions, and what lies in them."""
    for subject in _subjects(root):
        folders = list_folder(subject).folders
        sessions = [folder for folder in folders if folder.name.startswith("ses-")]
        for visit in (subject, *sessions):
            listing = list_folder(visit / "anat")
            if listing != Listing():
                yield visit / "anat", listing


def _all_subjects(account: Account, path: Path) -> list[Path]:
    """Folders of subjects; links to folders that are not there are excluded."""
    listing = account.listing(path)
    _exclude_lost(account, listing, ("sub-", "derivatives"))
    return _subjects(listing)


def _exclude_lost(account: Account, listing: Listing, beginnings: tuple[str, ...]) -> None:
    for path, reason in listing.lost:
        if path.name.startswith(beginnings):
            account.exclude(account.shown(path).replace("/", "_"), path, reason)


def _of_subject(account: Account, subject: Path, choice: Choice, known: set[str]) -> list[Found]:
    """Images of a subject; one without any is excluded. `known` learns the names of all that were found."""
    before = len(account.rejected)
    listing = account.listing(subject)
    _exclude_lost(account, listing, ("ses-", "anat"))
    sessions = [folder for folder in listing.folders if folder.name.startswith("ses-")]
    found: list[Found] = []
    for visit in (subject, *sessions):
        found += _of_visit(account, visit, choice, known)
    outside = [path for visit in (subject, *sessions) for path in account.listing(visit).candidates]
    if outside:
        names, more = several(account.shown(path) for path in outside[:SHOWN]), " …" if len(outside) > SHOWN else ""
        account.exclude(subject.name, subject, f"images lie outside of anat ({names}{more}); {RULE}")
    elif not found and len(account.rejected) == before:
        account.exclude(subject.name, subject, f"there is no folder anat with a {choice.contrast} image")
    return found


def _of_visit(account: Account, visit: Path, choice: Choice, known: set[str]) -> list[Found]:
    """Images of one visit, which lie in its folder `anat`."""
    listing = account.listing(visit)
    _exclude_lost(account, listing, ("anat",))
    modalities = [f for f in listing.folders if f.name != "anat" and not f.name.startswith("ses-")]
    account.ignore("folders of other modalities", len(modalities))
    if visit / "anat" not in listing.folders:
        return []
    anat = account.listing(visit / "anat")
    right = [path for path in anat.candidates if _contrast(path) == choice.contrast]
    known.update(image_stem(path).rpartition("_")[0] for path in anat.candidates if _contrast(path) not in _NO_IMAGES)
    taken = {path for path in right if choice.takes_image(image_stem(path))}
    account.ignore(f"{choice.contrast} images that are not chosen", len(right) - len(taken))
    _other_images(account, anat, choice)
    for path, reason in anat.unusable:
        if path in taken:
            account.exclude(_case_id(path, choice), path, reason)
    if not taken and not anat.error:
        _exclude_visit(account, visit, right, anat, choice)
    return [_found(_case_id(image, choice), image) for image in anat.images if image in taken]


def _found(case_id: str, image: Path) -> Found:
    subject, session = entities(case_id)
    return Found(case_id, image, subject=subject, session=session)


def _other_images(account: Account, anat: Listing, choice: Choice) -> None:
    """Account for what lies in `anat` beside the images of the chosen contrast."""
    for path in anat.candidates:
        contrast = _contrast(path)
        if contrast == "dseg":
            account.exclude(image_stem(path), path, "label maps must lie in derivatives")
        elif contrast in _NO_IMAGES:
            account.ignore("masks")
        elif contrast != choice.contrast:
            account.ignore("images of other contrasts")


def _exclude_visit(account: Account, visit: Path, right: list[Path], anat: Listing, choice: Choice) -> None:
    """Exclude a visit none of whose images is the chosen one."""
    name = account.shown(visit).replace("/", "_")
    if right:
        have = several(image_stem(path) for path in right)
        reason = f"there is {have}, but no image that the settings choose ({_asked(choice)})"
    else:
        contrasts = Counter(_contrast(path) for path in anat.candidates if _contrast(path) not in _NO_IMAGES)
        have = several(contrasts) if contrasts else ""
        reason = (
            f"it has {have} but no {choice.contrast} (the setting cohort.image chooses)"
            if have
            else f"it holds no {choice.contrast} image"
        )
    account.exclude(name, visit / "anat", reason)


def _asked(choice: Choice) -> str:
    return f"image: {choice.image}" + (f", run: {choice.run}" if choice.run else "")


def _contrast(path: Path) -> str:
    return image_stem(path).rpartition("_")[2]


def _case_id(path: Path, choice: Choice) -> str:
    """Name of a case by the file of its image."""
    return image_stem(path).removesuffix(f"_{choice.contrast}")


def _vocabulary(path: Path, labels: list[Path], choice: Choice) -> Vocabulary:
    """The vocabulary of the cohort, otherwise of the derivatives that the label maps are from, otherwise of others."""
    for folder in (path, *vocabulary_folders(path / "derivatives", labels)):
        vocabulary = Vocabulary() if not choice.trusted and leads_out(folder, path) else vocabulary_from_tables(folder)
        if vocabulary.names:
            return vocabulary
    return Vocabulary()


def _dates(account: Account, images: list[Path], choice: Choice) -> dict[tuple[str, str], str]:
    """Dates of visits from `sub-*/sub-*_sessions.tsv` (column acq_time); a bad table is a warning only."""
    dates: dict[tuple[str, str], str] = {}
    root = account.root
    for name in dict.fromkeys(image.relative_to(root).parts[0] for image in images):
        table = root / name / f"{name}_sessions.tsv"
        if not is_file(table) or (not choice.trusted and leads_out(table, root)):
            continue
        try:
            columns, rows = read_rows(table, most_bytes=MAX_TEXT_BYTES)
        except (TableError, OSError) as error:
            log.warning("dates of %s are not known: %s", name, error)
            continue
        for _, row in rows if "acq_time" in columns else ():
            date = (row["acq_time"] or "n/a")[:10]
            if date != "n/a":
                dates[name, row.get("session_id", "")] = date
    return dates
