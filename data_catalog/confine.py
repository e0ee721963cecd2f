"""Keep a cohort that comes from others to its own folder, links resolved."""

import os
from dataclasses import replace
from pathlib import Path

from data_catalog.listing import is_folder, relative
from data_catalog.schema import Case, Cohort, CohortError, Rejected

TEXTS = ("dataset.json", "dataset_description.json", "split.json", "labels.tsv", "dseg.tsv", "participants.tsv")


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path`, links resolved, lies outside of `folder`."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def check_texts(root: Path) -> None:
    """Refuse a cohort whose descriptions are links that lead out of its folder.

    Raises
    ------
    CohortError
        If one does; nothing was read then.
    """
    folder = root if is_folder(root) else root.parent
    for path in (root, *(folder / name for name in TEXTS)):
        if path.is_symlink() and path != folder and leads_out(path, folder):
            raise CohortError(
                f"{path} is a link that leads out of the cohort's folder, which the setting cohort.trusted forbids"
            )


def confined(cohort: Cohort) -> Cohort:
    """The cohort without the cases and label maps that lie outside of its folder; each is excluded with the reason."""
    folder = cohort.root if is_folder(cohort.root) else cohort.root.parent
    kept: list[Case] = []
    rejected = list(cohort.rejected)
    for case in cohort.cases:
        image, label = _outside(case.image, folder), case.label and _outside(case.label, folder)
        if image or (label and case.role == "atlas"):
            rejected.append(Rejected(case.id, case.image, _sentence(image or label or case.image, cohort.root)))
            continue
        if label:
            name = f"{relative(label, cohort.root)} ({case.id})"
            rejected.append(Rejected(name, label, _sentence(label, cohort.root), case.id))
        kept.append(replace(case, label=None) if label else case)
    return replace(cohort, cases=tuple(kept), rejected=tuple(rejected))


def _outside(path: Path, folder: Path) -> Path | None:
    """The file, or the first file of a folder of DICOM slices, that leads out of `folder`."""
    if leads_out(path, folder):
        return path
    if not is_folder(path):
        return None
    found = (Path(at) / name for at, folders, files in os.walk(path) for name in sorted((*folders, *files)))
    return next((each for each in found if each.is_symlink() and leads_out(each, folder)), None)


def _sentence(path: Path, root: Path) -> str:
    shown = relative(path, root)
    return f"{shown}: the file lies outside of the cohort's folder, which the setting cohort.trusted forbids"
