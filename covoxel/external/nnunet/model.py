"""Trained models in nnU-Net's folder: written so that its own predictor takes them, read without running anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from covoxel.external.nnunet.planning import Plan


@dataclass(frozen=True, eq=False)
class FoldModel:
    """What one training left.

    Parameters
    ----------
    fold
        Its number, or `all`.
    weights
        Of the network, on the CPU.
    training_ids, validation_ids
        Of cases.
    losses
        Mean of each epoch.
    mirroring
        Axes along which images were mirrored, nnU-Net's order.
    """

    fold: int | str
    weights: Mapping[str, Tensor]
    training_ids: tuple[str, ...]
    validation_ids: tuple[str, ...]
    losses: tuple[float, ...]
    mirroring: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model that can predict.

    Parameters
    ----------
    plans, dataset_json, configuration
        As of `Plan`.
    values
        As of `Dataset`.
    folds
        Name of each fold that is there.
    weights
        Of the network of each fold.
    mirroring
        Axes for the mirrored views of a prediction.
    """

    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    configuration: str
    values: tuple[int, ...]
    folds: tuple[int | str, ...]
    weights: tuple[Mapping[str, Tensor], ...]
    mirroring: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan, folds: Sequence[FoldModel]) -> "TrainedModel":
        """The model of a plan's folds, without a detour over files."""
        raise NotImplementedError


def write_model(folder: Path, plan: Plan, folds: Sequence[FoldModel]) -> None:
    """Write `plans.json`, `dataset.json` and `fold_K/checkpoint_final.pth`, as nnU-Net does; other folds stay.

    Raises
    ------
    NnunetError
        If `folder` holds a model of other plans.
    """
    raise NotImplementedError


def read_model(folder: Path, folds: Sequence[int | str] | None = None) -> TrainedModel:
    """A model from nnU-Net's folder, whoever trained it; all of its numbered folds, else `all`, if none is named.

    Raises
    ------
    NnunetError
        If plans or checkpoints are missing, are not nnU-Net's, or not of one another, or it is a cascade or of
        overlapping regions.
    """
    raise NotImplementedError
