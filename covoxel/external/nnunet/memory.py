"""Memory that a training or a prediction takes, from shapes and plans, and what there is."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from covoxel.external.nnunet.library import managers
from covoxel.memory import available_bytes

if TYPE_CHECKING:
    from covoxel.external.nnunet.model import TrainedModel
    from covoxel.external.nnunet.planning import Plan

KEPT_BYTES = {"float32": 14.0, "bfloat16": 11.0, "float16": 11.0}
"""Of a training, for each number that a convolution gives; measured. Half precision still normalises in float32."""

_WEIGHT_BYTES = 16
"""Weight, gradient, momentum, running average."""
_WORKER_BYTES = 700 * 2**20
_BASE_BYTES = 600 * 2**20
"""Of Python, torch and nnU-Net, before anything is computed."""


@dataclass(frozen=True)
class Estimate:
    """Bytes, by where they go.

    Parameters
    ----------
    device
        On the device that computes: weights, gradients, activations.
    host
        Beside that in main memory: batches, images, workers.
    """

    device: int
    host: int

    @property
    def total(self) -> int:
        """Where the device is the CPU."""
        return self.device + self.host


def training_bytes(plan: "Plan", precision: str = "float32") -> Estimate:
    """What a training by `plan` takes, about."""
    return estimate(plan.plans, plan.dataset_json, plan.configuration, plan.profile.workers, precision)


def estimate(
    plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str, workers: int, precision: str
) -> Estimate:
    """What a training by such plans takes, with so many processes that prepare batches."""
    weights, numbers = _network(plans, dataset_json, configuration)
    _, own, _ = managers(plans, dataset_json, configuration)
    device = weights * _WEIGHT_BYTES + int(numbers * own.batch_size * KEPT_BYTES[precision])
    patch = prod(own.patch_size) * 4 * (2 + len(dataset_json["channel_names"]))
    host = _BASE_BYTES + 8 * patch * own.batch_size + workers * (_WORKER_BYTES + 8 * patch * own.batch_size)
    return Estimate(device, host)


def prediction_bytes(model: "TrainedModel", shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Estimate:
    """What the prediction of an image of `shape` and `spacing_mm` (NIfTI order) takes, about."""
    manager, own, labels = managers(model.plans, model.dataset_json, model.configuration)
    weights, numbers = _network(model.plans, model.dataset_json, model.configuration)
    sides = [*(1 for _ in range(3 - len(shape))), *shape[::-1]]
    spacing = [*(1.0 for _ in range(3 - len(shape))), *spacing_mm[::-1]]
    wanted = [*spacing[: 3 - len(own.spacing)], *own.spacing]
    moved = [spacing[axis] for axis in manager.transpose_forward]
    here, heads = prod(sides), labels.num_segmentation_heads
    seen = prod(
        max(1.0, sides[axis] * mm / new, float(side))
        for axis, mm, new, side in zip(manager.transpose_forward, moved, wanted, _padded(own.patch_size), strict=True)
    )
    channels = len(model.dataset_json["channel_names"])
    image = here * channels * 12 + seen * channels * 8
    said = seen * heads * 2 + here * (heads * 10 + 24)
    tile = numbers // 3 * 4 + prod(own.patch_size) * heads * 8
    return Estimate(weights * 4 * len(model.weights) + tile, _BASE_BYTES + int(image + said))


def at_hand(device: torch.device | str = "cpu") -> int:
    """Bytes that can still be had: of main memory, within the limits of process and container, or of the GPU."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


def in_words(count: int) -> str:
    """Bytes as a person reads them, and exactly."""
    return f"{count / 2**30:.2f} GiB ({count} bytes)"


def _padded(patch: list[int]) -> list[int]:
    return [*(1 for _ in range(3 - len(patch))), *patch]


def _network(plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str) -> tuple[int, int]:
    """Number of weights, and of numbers that the convolutions give for one patch."""
    from covoxel.external.nnunet.planner import network_of

    _, own, _ = managers(plans, dataset_json, configuration)
    with torch.device("meta"):
        network = network_of(plans, dataset_json, configuration, deep_supervision=True)
    weights = sum(parameter.numel() for parameter in network.parameters())
    return weights, int(network.compute_conv_feature_map_size(own.patch_size))
