"""Training of a registration network; can be killed at any time and taken up where the last checkpoint is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from covoxel.processes import begin_worker, birth_of_workers
from covoxel.training.progress import Progress
from covoxel.training.registration.answer import Staged, stages_of
from covoxel.training.registration.cases import TrainingCase, check_cases
from covoxel.training.registration.loop import Call, Files, work
from covoxel.training.registration.machine import Precision, make_fabric
from covoxel.training.registration.objective import PARTS
from covoxel.training.registration.recipe import Recipe
from covoxel.training.registration.state import State

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PARTS = ("loss", *PARTS)
_CURVE = ("step", "learning_rate", *_PARTS, *(f"validation_{part}" for part in _PARTS))


@dataclass(frozen=True, eq=False)
class TrainedRegistration:
    """What training leaves.

    Parameters
    ----------
    network
        With the best weights, in evaluation mode.
    curve
        One row a judgement: `step`, `learning_rate`; the mean `loss` of the steps since the last one and its parts
        `similarity`, `labels` (over pairs that have some), `regularity`, `levels`, `consistency`, `warps`; the same
        of the validation, `validation_…`. Parts that the recipe has not are missing.
    step
        Steps done.
    best_step
        The step of the best weights.
    stopped_early
        Whether patience ended training before the last step.
    notes
        What is worth saying of it, a sentence each.
    """

    network: nn.Module
    curve: pd.DataFrame
    step: int
    best_step: int
    stopped_early: bool
    notes: tuple[str, ...]


def train_registration(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    recipe: Recipe,
    *,
    values: int = 0,
    spacing_mm: Sequence[float] | None = None,
    device: str = "cpu",
    precision: Precision = "32-true",
    devices: int = 1,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 180.0,
    logs: Path | None = None,
    progress: Progress | None = None,
) -> TrainedRegistration:
    """Train `network` as the recipe says.

    Parameters
    ----------
    network
        From fixed and moving images, `(batch, 1, *shape)` each, to an answer as `nets.registration.Registered`;
        changed in place. A cascade of the schedule "frozen" is trained stage after stage, with equal shares of the
        steps.
    cases
        All on one frame.
    recipe
        See `Recipe`; its `network` and `alignment` are names to others, and not read.
    values
        Number of labels, background included; needed for supervision "labels".
    spacing_mm
        Of the frame, along each axis; by default voxels are cubes with sides of 1.
    device, precision, devices
        Where to compute, how precisely, and on how many devices, which share each batch. Several are processes of
        their own: call it from a module that can be imported, with a `progress` that can be pickled; an error of one
        of them ends all, as a `torch.multiprocessing.ProcessRaisedException`. The curve is then of the pairs of the
        first device.
    checkpoint
        File of the state, written when `checkpoint_seconds` have passed and at the end. If it exists, training goes
        on from there, and ends with the same bits (on a CPU, with the same number of threads) as if it had not been
        stopped.
    logs
        Folder for TensorBoard.
    progress
        Told after every step; if it raises, training ends with that error after a checkpoint of the step.

    Returns
    -------
    TrainedRegistration

    Raises
    ------
    ValueError
        If cases, recipe and network do not fit together, or the checkpoint is none, or of another training.
    TrainingDivergedError
        If a loss or gradient is not finite; names the pair. The last checkpoint stays.
    torch.OutOfMemoryError
        If memory ends even at one pair on the CPU, or with several devices. Else the batch is halved, gradients are
        added up, and at last training goes on on the CPU, which `notes` say.

    Notes
    -----
    Every step draws from generators that its own number seeds, so nothing of theirs needs to be kept.
    """
    if not 1 <= devices <= recipe.batch:
        raise ValueError(f"devices must be from 1 to the batch, {recipe.batch}, got {devices}")
    if checkpoint_seconds < 0:
        raise ValueError(f"checkpoint_seconds must not be negative, got {checkpoint_seconds}")
    if recipe.supervision == "labels" and values < 2:
        raise ValueError(f"values must be 2 or more for supervision 'labels' (background is one), got {values}")
    values = values if recipe.supervision == "labels" else 0
    check_cases(cases, values)
    check_sides(network, cases[0])
    if recipe.steps < stages_of(network):
        raise ValueError(f"steps must be {stages_of(network)} or more, one for each stage, got {recipe.steps}")
    call = Call(network, cases, recipe, values, checked_spacing(cases[0], spacing_mm))
    files = Files(checkpoint, checkpoint_seconds, logs, progress)
    fabric = make_fabric(torch.device(device), precision, devices)
    job = partial(work, call=call, files=files)
    state = _shared(fabric, job) if devices > 1 else job(fabric)
    if isinstance(network, Staged) and stages_of(network) > 1:
        network.train_stage(None)
    network.load_state_dict({name: torch.as_tensor(value) for name, value in state.best.items()})
    columns = [name for name in _CURVE if any(name in row for row in state.curve)]
    curve = pd.DataFrame(state.curve, columns=columns)
    return TrainedRegistration(
        network.cpu().eval(), curve, state.done, state.best_step, state.stopped_early, tuple(state.notes)
    )


def _shared(fabric: Fabric, job: Callable[[Fabric], State]) -> State:
    """What the job gives in the first of several processes."""
    with birth_of_workers():
        state: State = fabric.launch(partial(_in_worker, job=job))
    return state


def _in_worker(fabric: Fabric, job: Callable[[Fabric], State]) -> State:
    begin_worker()
    return job(fabric)


def check_sides(network: nn.Module, case: TrainingCase) -> None:
    """See that images are not too small for the network."""
    smallest = int(getattr(network, "smallest_side", 1))
    if min(case.image.shape) < smallest:
        raise ValueError(
            f"images must have at least {smallest} voxels along each axis for this network, got "
            f"{tuple(case.image.shape)}"
        )


def checked_spacing(case: TrainingCase, spacing_mm: Sequence[float] | None) -> tuple[float, ...]:
    """Spacing of the frame on which the case lies; cubes with sides of 1 if none is given."""
    n = case.image.ndim
    spacing = (1.0,) * n if spacing_mm is None else tuple(float(s) for s in spacing_mm)
    if len(spacing) != n or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing_mm must be {n} positive numbers, got {spacing_mm}")
    return spacing
