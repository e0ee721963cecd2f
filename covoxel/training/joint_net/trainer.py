"""Training of one network that registers and segments; can be killed at any time and taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from covoxel.training.joint.material import FusedLabels, Given, Material, held_out, without_labels
from covoxel.training.joint.phased import curve_of
from covoxel.training.joint.sampling import LabelledPairSampler
from covoxel.training.joint_net.answer import Phased
from covoxel.training.joint_net.loop import JointNetCall, JointNetTraining
from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.progress import Progress
from covoxel.training.registration.cases import TrainingCase, check_cases
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import Precision, make_fabric
from covoxel.training.registration.trainer import check_sides, checked_spacing


@dataclass(frozen=True, eq=False)
class TrainedJointNet:
    """What training leaves.

    Parameters
    ----------
    network
        In evaluation mode: with the weights that were best where somebody judged, else with the last.
    curve
        One row a judgement: `phase` ("registration" or "joint") and `step` in it; of the steps since the last one the
        mean `loss`, `learning_rate` and the parts, of the pairs that have them: `similarity`, `regularity`, `levels`,
        `foreign`, `supervised`, `fused`, `propagated`, `agreement`; the same of the validation, `validation_…`, whose
        loss is that of labels alone. Parts that there are none of are missing. Of each cross-stitch unit `alpha_…`,
        how far it is off the identity: the mean size of α_SR and α_RS.
    best_step
        The step of the weights, in the last phase.
    judging
        Names of the labelled cases that taught no label.
    notes
        What is worth saying of it, a sentence each.
    """

    network: nn.Module
    curve: pd.DataFrame
    best_step: int
    judging: tuple[str, ...]
    notes: tuple[str, ...]


def train_joint_net(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    recipe: JointNetRecipe,
    *,
    values: int,
    fused: Mapping[str, FusedLabels] | None = None,
    known: Mapping[str, AbstractSet[int]] | None = None,
    spacing_mm: Sequence[float] | None = None,
    device: str = "cpu",
    precision: Precision = "32-true",
    recompute: bool = False,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 180.0,
    logs: Path | None = None,
    progress: Progress | None = None,
) -> TrainedJointNet:
    """Train a network that registers and segments, both from the first step on.

    Parameters
    ----------
    network
        From fixed and moving images, `(batch, 1, *shape)` each, and `(batch, values, *shape)` probabilities of the
        moving labels, or None, to an answer as `nets.joint.Joint`; changed in place.
    cases
        All on one frame, some of them labelled.
    recipe
        See `JointNetRecipe`; its name of the network and `alignment` are for others, and not read.
    values
        Number of labels, background included.
    fused
        Labels of cases without true ones, fused of atlases, by id.
    known, spacing_mm, device, precision, recompute
        As for `covoxel.training.joint.train_joint`.
    checkpoint
        File of the state, written when `checkpoint_seconds` have passed and at the end of each phase. If it exists,
        training goes on from there, and ends with the same bits (on a CPU, with the same number of threads) as if it
        had not been stopped.
    logs
        Folder for TensorBoard.
    progress
        Told after every step, of both phases.

    Returns
    -------
    TrainedJointNet
        Without any labels, its network has learnt to register alone; `notes` say so.

    Raises
    ------
    ValueError
        If cases, recipe and network do not fit together, or the checkpoint is none, or of another training; names
        the setting that differs.
    TrainingDivergedError
        If a loss or gradient is not finite; names phase and pair. The last checkpoint stays.
    torch.OutOfMemoryError
        As for `covoxel.training.registration.train_registration`.
    """
    if values < 2:
        raise ValueError(f"values must be 2 or more (background is one), got {values}")
    if checkpoint_seconds < 0:
        raise ValueError(f"checkpoint_seconds must not be negative, got {checkpoint_seconds}")
    check_cases(cases, values)
    check_sides(network, cases[0])
    judging = held_out(cases, recipe)
    whole = Material(cases, values, fused, known)
    teaching = Material(without_labels(cases, judging), values, fused, known)
    _check(network, recipe, teaching)
    spacing = checked_spacing(cases[0], spacing_mm)
    call = JointNetCall(network, teaching, (whole, judging), recipe, spacing, recompute)
    fabric = make_fabric(torch.device(device), precision)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        files = Files(checkpoint, checkpoint_seconds, logs, progress)
        training = JointNetTraining(call, files, fabric, _notes(recipe, teaching))
        if judging and not training.validation.pairs:
            training.state.note("nobody judged: no pair can be made of a held-out case and a labelled one")
        training.run()
    state = training.state
    return TrainedJointNet(network.cpu().eval(), curve_of(state.curve), training.best_step, judging, tuple(state.notes))


def _check(network: nn.Module, recipe: JointNetRecipe, material: Material) -> None:
    """See that recipe, network and cases go together."""
    LabelledPairSampler(material, recipe).check_pairs()
    if recipe.registration_steps and not isinstance(network, Phased):
        raise ValueError(
            f"registration_steps must be 0 for a network that is not trained in two phases, got "
            f"{recipe.registration_steps}"
        )
    if max(recipe.lesions, default=0) >= material.values:
        raise ValueError(f"lesions must be places 1 to {material.values - 1} here, got {list(recipe.lesions)}")
    if not recipe.similarity.weight and not _taught(recipe, material):
        raise ValueError(f"recipe {recipe.name} learns from labels alone, and no case has labels to teach it")


def _taught(recipe: JointNetRecipe, material: Material) -> bool:
    return bool(material.known or (material.fused and recipe.fused_weight))


def _notes(recipe: JointNetRecipe, material: Material) -> list[str]:
    """What is worth saying before training begins."""
    if not _taught(recipe, material):
        return ["the network has learnt no segmentation: no case has labels to teach it; name an atlas or more"]
    notes = material.notes()
    if recipe.compares("propagated") and not _propagates(recipe, material):
        notes.append("no propagated label was compared: of the labelled cases, no pair can be made")
    return notes


def _propagates(recipe: JointNetRecipe, material: Material) -> bool:
    """Whether there is a pair with labels on both sides."""
    places = material.places(Given.TRUE) + (material.places(Given.FUSED) if recipe.fused_weight else [])
    people = [material.cases[place].person for place in places]
    return len(set(people)) < len(people) if recipe.pairs == "within" else len(set(people)) > 1
