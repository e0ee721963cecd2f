"""Joint training of a registration and a segmentation network; can be killed and taken up in any phase."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from covoxel.training.joint.loop import JointCall, JointTraining
from covoxel.training.joint.material import FusedLabels, Material, held_out, without_labels
from covoxel.training.joint.phased import curve_of
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.joint.recompute import recomputed
from covoxel.training.joint.state import JointState
from covoxel.training.progress import Progress
from covoxel.training.registration.cases import TrainingCase, check_cases
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import Precision, make_fabric
from covoxel.training.registration.recipe import Recipe
from covoxel.training.registration.split import has_pairs
from covoxel.training.registration.trainer import TrainedRegistration, check_sides, checked_spacing, train_registration


@dataclass(frozen=True, eq=False)
class TrainedJoint:
    """What joint training leaves.

    Parameters
    ----------
    registration
        In evaluation mode.
    segmentation
        In evaluation mode; None where no case has labels to teach it.
    registration_alone, segmentation_alone
        The same before the joint phase: what joint training is to be compared with, at no more cost.
    curve
        One row a judgement: `phase` ("registration", "segmentation" or "joint") and `step` in it; of the steps since
        the last one the mean losses and their parts, `registration_loss`, `segmentation_supervised` …, and the
        learning rates; the same of the validation, `validation_…`. Parts that there are none of are missing.
    judging
        Names of the labelled cases that taught no label.
    notes
        What is worth saying of it, a sentence each.
    discriminator
        In evaluation mode; None where none was trained.
    """

    registration: nn.Module
    segmentation: nn.Module | None
    registration_alone: nn.Module
    segmentation_alone: nn.Module | None
    curve: pd.DataFrame
    judging: tuple[str, ...]
    notes: tuple[str, ...]
    discriminator: nn.Module | None = None


def train_joint(
    registration: nn.Module,
    segmentation: nn.Module,
    cases: Sequence[TrainingCase],
    recipe: JointRecipe,
    *,
    values: int,
    fused: Mapping[str, FusedLabels] | None = None,
    known: Mapping[str, AbstractSet[int]] | None = None,
    discriminator: nn.Module | None = None,
    spacing_mm: Sequence[float] | None = None,
    device: str = "cpu",
    precision: Precision = "32-true",
    recompute: bool = False,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 180.0,
    logs: Path | None = None,
    progress: Progress | None = None,
) -> TrainedJoint:
    """Train both networks as the recipe says: each alone, then in turns, the other one frozen.

    First the registration network alone, weakly supervised if its recipe says so and two labelled cases make a pair.
    Then the segmentation network alone, on labelled images; with one labelled image, from unlabelled ones through the
    frozen registration network as well. Then both in turns, and a discriminator, if the recipe has one.

    Parameters
    ----------
    registration
        From fixed and moving images, `(batch, 1, *shape)` each, to an answer as `nets.registration.Registered`;
        changed in place.
    segmentation
        From images `(batch, 1, *shape)` to logits `(batch, values, *shape)`; changed in place.
    cases
        All on one frame, some of them labelled.
    recipe
        See `JointRecipe`; names of networks and `alignment` are for others, and not read.
    values
        Number of labels, background included.
    fused
        Labels of cases without true ones, fused of atlases, by id. They add a supervised term; to what the networks
        learn from each other such a case is unlabelled.
    known
        Structures, places in the list of labels, that the true labels of a case tell, by id. By default those that
        occur in them: others may be hidden in their background, and are neither taught nor punished there. Name them
        where a structure may really be absent, a lesion for one.
    discriminator
        From candidate and fixed images `(batch, 1, *shape)` to logits of being aligned `(batch, 1, *cells)`, as
        `nets.joint.discriminator.PatchDiscriminator`; changed in place. To be given if `recipe.has_discriminator`, and
        only then.
    spacing_mm
        Of the frame, along each axis; by default voxels are cubes with sides of 1.
    device, precision
        Where to compute, and how precisely.
    recompute
        Compute features again in the backward pass, for images too big otherwise; changes no result.
    checkpoint
        File of the state, written when `checkpoint_seconds` have passed and at the end of each phase; that of the
        registration network alone is beside it, `….registration` before the suffix. If there is one, training goes on
        from there, and ends with the same bits (on a CPU, with the same number of threads) as if it had not been
        stopped.
    logs
        Folder for TensorBoard.
    progress
        Told after every step, of all phases.

    Returns
    -------
    TrainedJoint
        Without any labels, of the registration network alone; `notes` say so.

    Raises
    ------
    ValueError
        If cases, recipe and networks do not fit together, or the checkpoint is none, or of another training; names
        the setting that differs.
    TrainingDivergedError
        If a loss or gradient is not finite; names phase, network and pair. The last checkpoint stays.
    torch.OutOfMemoryError
        As for `train_registration`.

    References
    ----------
    Xu and Niethammer, DeepAtlas: joint semi-supervised learning of image registration and segmentation, MICCAI 2019.
    """
    if values < 2:
        raise ValueError(f"values must be 2 or more (background is one), got {values}")
    if checkpoint_seconds < 0:
        raise ValueError(f"checkpoint_seconds must not be negative, got {checkpoint_seconds}")
    check_cases(cases, values)
    for network in (registration, segmentation):
        check_sides(network, cases[0])
    judging = held_out(cases, recipe)
    whole = Material(cases, values, fused, known)
    teaching = Material(without_labels(cases, judging), values, fused, known)
    spacing = checked_spacing(cases[0], spacing_mm)
    call = JointCall(registration, segmentation, teaching, (whole, judging), recipe, spacing, recompute, discriminator)
    call.check()
    files = Files(checkpoint, checkpoint_seconds, logs, progress)
    taught = bool(teaching.known or (teaching.fused and recipe.fused_weight))
    alone = None
    if not (taught and checkpoint is not None and Path(checkpoint).exists()):
        alone = _train_alone(call, files, device, precision, taught)
    if not taught:
        note = "the segmentation network was not trained: no case has labels to teach it; name an atlas or more"
        notes = (*(alone.notes if alone else ()), note)
        ready = registration.eval()
        return TrainedJoint(ready, None, ready, None, curve_of(_rows(alone)), (), notes)
    fabric = make_fabric(torch.device(device), precision)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        training = JointTraining(call, replace(files, logs=None if logs is None else logs / "joint"), fabric)
        if checkpoint is not None and Path(checkpoint).exists():
            training.resume(Path(checkpoint))
        else:
            training.begin(_rows(alone), [*(alone.notes if alone else ()), *teaching.notes()])
        training.run()
    return _trained(call, training.state)


def _train_alone(
    call: JointCall, files: Files, device: str, precision: Precision, taught: bool
) -> TrainedRegistration | None:
    """Train the registration network alone; None if there is nothing to do."""
    steps = call.recipe.steps_alone
    if not steps:
        return None
    total = steps + (sum(call.phases.values()) if taught else 0)
    recipe, notes = _recipe_alone(call)
    path, tell = files.checkpoint, files.progress
    with recomputed(call.registration) if call.recompute else nullcontext():
        trained = train_registration(
            call.registration,
            call.material.cases,
            recipe,
            values=call.material.values,
            spacing_mm=call.spacing_mm,
            device=device,
            precision=precision,
            checkpoint=None if path is None else path.with_name(f"{path.stem}.registration{path.suffix}"),
            checkpoint_seconds=files.seconds,
            logs=None if files.logs is None else files.logs / "registration",
            progress=None if tell is None else lambda done, _, loss: tell(done, total, loss),
        )
    return replace(trained, notes=(*notes, *(f"registration alone: {note}" for note in trained.notes)))


def _recipe_alone(call: JointCall) -> tuple[Recipe, tuple[str, ...]]:
    """The registration network's recipe, without labels where these make no pair."""
    recipe = replace(call.recipe.registration, steps=call.recipe.steps_alone)
    labelled = [place for place, case in enumerate(call.material.cases) if case.labels is not None]
    if recipe.supervision != "labels" or has_pairs(call.material.cases, labelled, recipe):
        return recipe, ()
    note = f"registration was first trained without labels: of labelled cases, {len(labelled)}, no pair can be made"
    return replace(recipe, supervision="images"), (note,)


def _rows(alone: TrainedRegistration | None) -> list[dict[str, Any]]:
    """The learning curve of the registration network alone, as that of all phases names it."""
    if alone is None:
        return []
    parts = [str(name) for name in alone.curve.columns if name != "step"]
    kind = "validation_"
    names = {
        name: f"{kind}registration_{name.removeprefix(kind)}" if name.startswith(kind) else f"registration_{name}"
        for name in parts
    }
    rows = alone.curve.rename(columns=names).to_dict("records")
    return [{"phase": "registration", **{str(key): value for key, value in row.items()}} for row in rows]


def _trained(call: JointCall, state: JointState) -> TrainedJoint:
    """The networks at the end, and as they were before the joint phase."""
    networks = [network.cpu().eval() for network in (call.registration, call.segmentation)]
    alone = [copy.deepcopy(network) for network in networks]
    for network, name in zip(alone, ("registration", "segmentation"), strict=True):
        network.load_state_dict(state.alone[name])
    curve, judging = curve_of(state.curve), call.judging[1]
    third = None if call.discriminator is None else call.discriminator.cpu().eval()
    return TrainedJoint(networks[0], networks[1], alone[0], alone[1], curve, judging, tuple(state.notes), third)
