"""nnU-Net's trainer without its folders, its log and its validation, and with weights in its loss."""

import logging
from typing import Any

import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from covoxel.external.nnunet.library import managers
from covoxel.external.nnunet.loss import WeightedLoss
from covoxel.external.nnunet.planner import network_of
from covoxel.external.nnunet.planning import Plan
from covoxel.external.nnunet.precision import autocast, memory_layout
from covoxel.external.nnunet.sampling import Batch

log = logging.getLogger(__name__)

_CLIP = 12.0


class WeightedTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Network, optimiser, loss, transforms and step of nnU-Net for one plan.

    Parameters
    ----------
    plan
        Which one.
    device
        Where to train.
    precision
        `float32`, `bfloat16` or `float16`.
    seed
        Of the first weights.
    """

    # nnU-Net's own __init__ makes folders, files and loggers, and asks for its variables.
    def __init__(self, plan: Plan, device: torch.device, precision: str, seed: int) -> None:
        profile = plan.profile
        self.is_ddp, self.local_rank, self.device, self.precision = False, 0, device, precision
        self.plans_manager, self.configuration_manager, self.label_manager = managers(
            plan.plans, plan.dataset_json, plan.configuration
        )
        self.initial_lr, self.weight_decay = profile.learning_rate, profile.weight_decay
        self.num_epochs, self.num_iterations_per_epoch = profile.epochs, profile.iterations
        self.enable_deep_supervision = profile.deep_supervision
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = network_of(
                plan.plans, plan.dataset_json, plan.configuration, deep_supervision=profile.deep_supervision
            ).to(device)
        self.layout = memory_layout(device, len(self.configuration_manager.patch_size))
        self.network = self.network.to(memory_format=self.layout)
        self.optimizer, self.lr_scheduler = self.configure_optimizers()
        for group in self.optimizer.param_groups:
            group["momentum"] = profile.momentum
        self.grad_scaler = torch.GradScaler("cuda") if precision == "float16" else None
        outputs = len(self.configuration_manager.pool_op_kernel_sizes) - 1 if profile.deep_supervision else 1
        self.loss = WeightedLoss(bool(self.configuration_manager.batch_dice), max(1, outputs))
        self.transforms, self.drawn, self.mirroring = self._transforms_of(plan)

    def print_to_log_file(self, *args: Any, **_: Any) -> None:
        """What nnU-Net would print."""
        log.debug("nnU-Net said: %s", " ".join(map(str, args)))

    def begin_epoch(self, epoch: int) -> None:
        """Learning rate of an epoch, by nnU-Net's rule."""
        self.network.train()
        self.lr_scheduler.step(epoch)

    def train_step(self, batch: Batch) -> float:
        """One step; its loss."""
        data, labels, weights, cases = (None if each is None else self._moved(each) for each in batch)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            said = self.network(data)
        outputs = said if self.enable_deep_supervision else [said]
        loss = self.loss(outputs, labels, weights, cases)
        value = float(loss.detach())
        if self.grad_scaler is None:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return value

    def _moved(self, values: Tensor) -> Tensor:
        layout = self.layout if values.ndim == len(self.configuration_manager.patch_size) + 2 else torch.preserve_format
        return values.to(self.device, non_blocking=True, memory_format=layout)

    def _transforms_of(self, plan: Plan) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
        """nnU-Net's transforms, the sides of the patch that they want, and the axes that are mirrored."""
        rotation, flat, drawn, axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        axes = tuple(axes) if plan.profile.mirroring else ()
        found = self.get_training_transforms(
            self.configuration_manager.patch_size,
            rotation,
            None,
            axes,
            flat,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
        )
        for each in found.transforms:
            if isinstance(each, RandomTransform) and isinstance(each.transform, GaussianBlurTransform):
                each.transform.benchmark = False  # it takes what was faster just now, of two that differ in bits
        return found, tuple(int(side) for side in drawn), axes
