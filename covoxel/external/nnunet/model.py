"""Trained models: what a fold left, and the folds that predict together."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.names import OURS
from covoxel.external.nnunet.planning import Plan
from covoxel.io import sha256_json


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
        if not folds:
            raise NnunetError("a model must have a fold, got none")
        return cls(
            plan.plans,
            plan.dataset_json,
            plan.configuration,
            plan.dataset.values,
            tuple(each.fold for each in folds),
            tuple(each.weights for each in folds),
            folds[0].mirroring,
        )

    @property
    def canonical(self) -> bool:
        """Whether images are turned nearest to RAS before it sees them."""
        return bool(self.dataset_json.get(OURS, {}).get("canonical"))

    @property
    def channels(self) -> int:
        """How many images it sees of a case."""
        return len(self.dataset_json["channel_names"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over plans and weights."""
        digest = hashlib.sha256(sha256_json([self.plans, self.dataset_json, self.configuration]).encode())
        for weights in self.weights:
            for name in sorted(weights):
                digest.update(name.encode())
                digest.update(weights[name].contiguous().numpy().tobytes())
        return digest.hexdigest()
