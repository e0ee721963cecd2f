"""Names of nnU-Net's files and folders, and of what is kept beside where it does not look."""

import re
from pathlib import Path

from covoxel.external.nnunet.errors import NnunetError

DATASET_JSON = "dataset.json"
PLANS_JSON = "plans.json"
CHECKPOINT = "checkpoint_final.pth"
ENDING = ".nii.gz"
OURS = "covoxel"
"""Key in `dataset.json` of what nnU-Net does not read: label values, orientation, weights of cases."""
CONFIDENCES = "confidencesTr"
TRAINER = "nnUNetTrainer"

_DATASET = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def check_dataset_name(folder: Path) -> None:
    """Raise NnunetError unless nnU-Net would take the name of `folder`."""
    if not _DATASET.fullmatch(folder.name):
        raise NnunetError(f"{folder} must be named DatasetNNN_Name, as nnU-Net wants it")


def check_case_id(case: str) -> None:
    """Raise NnunetError unless `case` can be the name of a file."""
    if not _CASE.fullmatch(case):
        raise NnunetError(
            f"the id {case!r} must be of letters, digits, _, -, + and ., beginning with one of the first two"
        )


def image_file(folder: Path, case: str, channel: int, *, labelled: bool) -> Path:
    """Image of a case and channel in a raw data set."""
    return folder / ("imagesTr" if labelled else "imagesTs") / f"{case}_{channel:04d}{ENDING}"


def label_file(folder: Path, case: str) -> Path:
    """Label map of a case in a raw data set."""
    return folder / "labelsTr" / f"{case}{ENDING}"


def confidence_file(folder: Path, case: str) -> Path:
    """Confidence of a case; nnU-Net does not look there."""
    return folder / CONFIDENCES / f"{case}{ENDING}"


def fold_folder(model: Path, fold: int | str) -> Path:
    """Folder of a fold in a model folder."""
    return model / f"fold_{fold}"
