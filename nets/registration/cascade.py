"""Recursive cascade: stages of any backbone, each registering what the stages before it have left."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from covoxel.spatial import warp
from covoxel.spatial.field import jacobian_determinant
from nets.registration.base import REGISTRATION_NETS, Level, Registered, RegistrationNet
from nets.registration.heads import Motion
from nets.registration.parts import full_precision

Schedule = Literal["final", "each", "frozen"]


@REGISTRATION_NETS.register("cascade")
class Cascade(RegistrationNet):
    """Stages in a row; each sees the fixed image and the moving one warped by all stages before it.

    The image is always warped once, by the composed field.

    Parameters
    ----------
    ndim
        2 or 3.
    stage, stage_settings
        Name and settings of the backbone of every stage.
    stages
        How many, each with weights of its own.
    affine, affine_settings
        Name and settings of a network before the first stage, "c2fvit" say; None: the pair is aligned already.
    schedule
        "final": `levels` is empty, the loss is on the last moved image and reaches all stages (recursive cascades).
        "each": `levels` holds the field after every stage, each to be compared with the fixed image (volume tweening).
        "frozen": one stage after the other, see `train_stage`; those before it are frozen (DLIR).
    repeats
        Out of training every stage is applied that many times with the same weights.
    folds
        Share of folded voxels (0 to 1) that a repeat may add to a pair; a pair that would fold more keeps the field
        it had, and stays with it until the next stage.

    References
    ----------
    Zhao et al., Recursive cascaded networks for unsupervised medical image registration, ICCV 2019.
    Zhao et al., Unsupervised 3D end-to-end medical image registration with volume tweening network, JBHI 2019.
    de Vos et al., A deep learning framework for unsupervised affine and deformable registration, MedIA 2019.
    Different here: the guard against repeats that fold; the original image is resampled at every stage.
    """

    def __init__(
        self,
        ndim: int,
        *,
        stage: str = "voxelmorph-1",
        stage_settings: Mapping[str, Any] | None = None,
        stages: int = 3,
        affine: str | None = None,
        affine_settings: Mapping[str, Any] | None = None,
        schedule: Schedule = "final",
        repeats: int = 1,
        folds: float = 0.0,
    ) -> None:
        super().__init__(ndim)
        if stages < 1 or repeats < 1 or folds < 0:
            raise ValueError(
                f"stages and repeats must be at least 1 and folds at least 0, got {stages}, {repeats} and {folds}"
            )
        if schedule not in ("final", "each", "frozen"):
            raise ValueError(f"schedule must be 'final', 'each' or 'frozen', got {schedule!r}")
        first = [REGISTRATION_NETS[affine](ndim, **(affine_settings or {}))] if affine else []
        rest = [REGISTRATION_NETS[stage](ndim, **(stage_settings or {})) for _ in range(stages)]
        self.stages = nn.ModuleList([*first, *rest])
        self.schedule, self.repeats, self.folds = schedule, repeats, folds
        self._affine = bool(affine)
        self._active = len(self.stages)
        if schedule == "frozen":
            self.train_stage(0)

    def train_stage(self, stage: int | None) -> None:
        """Train stage `stage` (0 is the first, the affine network if there is one) and freeze all others.

        Later stages are not run, earlier ones leave no graph. None: all stages run and none is frozen.
        """
        if stage is not None and not 0 <= stage < len(self.stages):
            raise ValueError(f"stage must be from 0 to {len(self.stages) - 1}, got {stage}")
        self._active = len(self.stages) if stage is None else stage + 1
        for index, net in enumerate(self.stages):
            net.requires_grad_(stage is None or index == stage)

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """Displacement of all stages that are active, composed."""
        total: Motion | None = None
        levels: list[Level] = []
        for index, net in enumerate(self.stages[: self._active]):
            total = self._advance(net, fixed, moving, total, inverse)
            if self.repeats > 1 and not self.training and not (self._affine and index == 0):
                total = self._repeat(net, fixed, moving, total, inverse)
            levels.append(total.level())
        assert total is not None
        return total.registered(fixed.shape[2:], 1, tuple(levels) if self.schedule == "each" else ())

    def _advance(self, net: nn.Module, fixed: Tensor, moving: Tensor, total: Motion | None, inverse: bool) -> Motion:
        with full_precision(fixed):
            moved = moving if total is None else warp(moving.float(), total.displacement_vox)
        said: Registered = net(fixed, moved, inverse=inverse)
        return Motion(said.displacement_vox, None, said.inverse_displacement_vox).after(total)

    def _repeat(self, net: nn.Module, fixed: Tensor, moving: Tensor, total: Motion, inverse: bool) -> Motion:
        allowed = folded_share(total.displacement_vox) + self.folds
        going = torch.ones_like(allowed, dtype=torch.bool)
        for _ in range(self.repeats - 1):
            further = self._advance(net, fixed, moving, total, inverse)
            going &= folded_share(further.displacement_vox) <= allowed
            if not going.any():
                break
            total = _where(going, further, total)
        return total


def folded_share(displacement_vox: Tensor) -> Tensor:
    """Share of voxels whose Jacobian determinant is 0 or less, `(batch,)`; an axis of one voxel does not fold."""
    axes = reversed(displacement_vox.shape[2:])
    thick = functional.pad(displacement_vox.detach(), [p for side in axes for p in (0, int(side == 1))], "replicate")
    return (jacobian_determinant(thick) <= 0).flatten(1).float().mean(1)


def _where(chosen: Tensor, new: Motion, old: Motion) -> Motion:
    """`new` for the pairs that are chosen, `old` for the others."""
    mask = chosen.view(-1, *[1] * (new.displacement_vox.ndim - 1))
    inverse = None
    if new.inverse_vox is not None and old.inverse_vox is not None:
        inverse = torch.where(mask, new.inverse_vox, old.inverse_vox)
    return Motion(torch.where(mask, new.displacement_vox, old.displacement_vox), None, inverse)
