"""Plan: fingerprint, plans and preprocessed cases of a data set, as nnU-Net makes them, cut down to the memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from covoxel.external.nnunet.dataset import Dataset
from covoxel.external.nnunet.profiles import Profile


@dataclass(frozen=True, eq=False)
class Plan:
    """What a training needs.

    Parameters
    ----------
    dataset
        Whose plan it is.
    folder
        Of the preprocessed cases.
    profile
        With what the plan did not take as it was: patch, batch, workers.
    plans
        nnU-Net's `plans.json`.
    dataset_json
        nnU-Net's `dataset.json`.
    configuration
        `3d_fullres` or `2d`.
    remarks
        Sentences: what was cut down and why.
    failed
        Sentence of each case that could not be preprocessed, by id; it does not train.
    """

    dataset: Dataset
    folder: Path
    profile: Profile
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    configuration: str
    remarks: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the plans and the settings of planning; equal plans have equal ones."""
        raise NotImplementedError


def plan(
    dataset: Dataset,
    work: Path,
    profile: Profile,
    *,
    memory: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Fingerprint, plan and preprocess a data set. What `work` has of it already is not made again.

    Parameters
    ----------
    dataset
        Of `write_dataset` or `read_dataset`.
    work
        Folder for what is made; a study of its own, a folder of its own.
    profile
        What to override of nnU-Net's plans.
    memory
        Bytes that a training may take; None: those at hand on `device`. A plan that takes more is cut down: first the
        batch, then the patch, then the workers.
    device
        Where the training will be.
    progress
        Called after each case with the cases done and the cases in all.

    Raises
    ------
    NnunetError
        If no case can be used.
    MemoryLimitError
        If the smallest plan takes too much.
    MissingLibraryError
        If nnU-Net is not installed.
    """
    raise NotImplementedError
