"""nnU-Net's predictor with its networks loaded once for all cases, quiet, and each fold heard by itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from torch import Tensor, nn

from covoxel.external.nnunet.library import kept_apart, managers
from covoxel.external.nnunet.model import TrainedModel
from covoxel.external.nnunet.names import TRAINER
from covoxel.external.nnunet.planner import network_of
from covoxel.external.nnunet.precision import autocast, memory_layout

_NEAR = 0.05


class SlidingPredictor:
    """Logits and probabilities of prepared images, by nnU-Net's sliding window.

    Parameters
    ----------
    model
        The folds.
    device
        Where to compute.
    precision
        On a CPU; on a GPU nnU-Net has its own.
    mirroring, step
        As of `Predictor`.

    Attributes
    ----------
    loads
        How many times a model was loaded into networks.
    """

    def __init__(
        self, model: TrainedModel, device: torch.device, precision: str, *, mirroring: bool, step: float
    ) -> None:
        self.model, self.device, self.precision = model, device, precision
        self.manager, self.own, self.labels = managers(model.plans, model.dataset_json, model.configuration)
        # A window a fold, none of which changes: threads may use them at once.
        self.windows = [self._window(self._network(weights), step, mirroring) for weights in model.weights]
        self.loads = 1

    def logits(self, data: NDArray[np.float32]) -> tuple[Tensor, float]:
        """Mean logits `(label, *shape)` of prepared images, half precision, and the disagreement of the folds.

        The arithmetic is that of nnU-Net's `predict_logits_from_preprocessed_data`.
        """
        images, said = torch.from_numpy(data), []
        total: Tensor | None = None
        context = autocast(self.device, self.precision if self.device.type == "cpu" else "float32")
        for window in self.windows:
            with torch.inference_mode(), context:
                found = window.predict_sliding_window_return_logits(images).to("cpu")
                if len(self.windows) > 1:
                    said.append(found.argmax(0).to(torch.int16))
                total = found if total is None else total.add_(found)
        assert total is not None
        if len(self.windows) > 1:
            with torch.inference_mode():
                total /= len(self.windows)
        return total, _spread(total, said)

    def probabilities(self, logits: Tensor, properties: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Probabilities `(label, k, j, i)` and nnU-Net's labels `(k, j, i)` where the images were.

        The arithmetic is that of nnU-Net's `convert_predicted_logits_to_segmentation_with_correct_shape`.
        """
        spacing = [properties["spacing"][axis] for axis in self.manager.transpose_forward]
        shape = properties["shape_after_cropping_and_before_resampling"]
        now = self.own.spacing if len(self.own.spacing) == len(shape) else [spacing[0], *self.own.spacing]
        resampled = np.asarray(self.own.resampling_fn_probabilities(logits.numpy(), shape, now, spacing))
        label = resampled.argmax(0)
        probabilities = torch.from_numpy(resampled).float().softmax(0).numpy()
        box, whole = properties["bbox_used_for_cropping"], properties["shape_before_cropping"]
        background = np.zeros((len(probabilities), *whole), np.float32)
        background[0] = 1
        placed = insert_crop_into_image(background, probabilities, box)
        labels = insert_crop_into_image(np.zeros(whole, np.int64), label, box)
        back = list(self.manager.transpose_backward)
        return placed.transpose([0, *[axis + 1 for axis in back]]), labels.transpose(back)

    def _window(self, network: nn.Module, step: float, mirroring: bool) -> nnUNetPredictor:
        with kept_apart():
            window = nnUNetPredictor(tile_step_size=step, use_mirroring=mirroring, device=self.device, allow_tqdm=False)
            content, mirrored = dict(self.model.dataset_json), self.model.mirroring or None
            window.manual_initialization(network, self.manager, self.own, None, content, TRAINER, mirrored)
        return window

    def _network(self, weights: Mapping[str, Tensor]) -> nn.Module:
        network: Any = network_of(
            self.model.plans, self.model.dataset_json, self.model.configuration, deep_supervision=False
        )
        network.load_state_dict(dict(weights))
        if self.precision == "bfloat16":  # float32 stays as nnU-Net has it, to the bit
            network = network.to(memory_format=memory_layout(self.device, len(self.own.patch_size)))
        found: nn.Module = network.to(self.device).eval()
        return found


def _spread(mean: Tensor, said: list[Tensor]) -> float:
    """Share of the folds whose label is not that of the mean, averaged over voxels near structures."""
    if len(said) < 2:
        return 0.0
    near = mean.float().softmax(0)[0] < 1 - _NEAR
    if not bool(near.any()):
        return 0.0
    winner = mean.argmax(0)[near]
    return float(torch.stack([each[near] != winner for each in said]).float().mean())
