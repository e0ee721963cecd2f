"""Memory that a training or a prediction takes, from shapes and plans, and what there is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from covoxel.external.nnunet.model import TrainedModel
    from covoxel.external.nnunet.planning import Plan


@dataclass(frozen=True)
class Estimate:
    """Bytes, by where they go.

    Parameters
    ----------
    device
        On the device that computes: weights, gradients, activations.
    host
        Beside that in main memory: cases, batches, workers.
    """

    device: int
    host: int

    @property
    def total(self) -> int:
        """Where the device is the CPU."""
        return self.device + self.host


def training_bytes(plan: "Plan", precision: str = "float32") -> Estimate:
    """What a training by `plan` takes, about."""
    raise NotImplementedError


def prediction_bytes(model: "TrainedModel", shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Estimate:
    """What the prediction of an image of `shape` and `spacing_mm` (NIfTI order) takes, about."""
    raise NotImplementedError


def at_hand(device: torch.device | str = "cpu") -> int:
    """Bytes that can still be had: of main memory, within the limits of process and container, or of the GPU."""
    raise NotImplementedError
