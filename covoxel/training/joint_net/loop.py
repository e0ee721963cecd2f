"""Training of one network that registers and segments, in two phases for some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from covoxel.training.joint.batch import pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint.phased import PhasedTraining
from covoxel.training.joint.sampling import LabelledPairSampler
from covoxel.training.joint.state import JointState
from covoxel.training.joint.turns import Turn
from covoxel.training.joint_net.answer import Phased, shared
from covoxel.training.joint_net.batch import ShownPairs, shown_of
from covoxel.training.joint_net.objective import JointNetObjective
from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.joint_net.validation import JointNetValidation
from covoxel.training.provenance import provenance
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.schedule import rate_at
from covoxel.training.seeds import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_NAME = "network"
"""Under which the state knows the only one."""


@dataclass(frozen=True, eq=False)
class JointNetCall:
    """What is trained on what; see `train_joint_net`.

    Parameters
    ----------
    network
        The network.
    material
        All cases, the held-out ones without their labels.
    judging
        All cases with their labels, and the names of the held-out ones.
    recipe, spacing_mm, recompute
        See `train_joint_net`.
    """

    network: nn.Module
    material: Material
    judging: tuple[Material, tuple[str, ...]]
    recipe: JointNetRecipe
    spacing_mm: tuple[float, ...]
    recompute: bool

    @property
    def steps_before(self) -> int:
        """Nothing is trained before."""
        return 0

    @property
    def phases(self) -> dict[str, int]:
        """Steps of each phase; that of registration alone is there for networks that have it."""
        return {"registration": self.recipe.registration_steps, "joint": self.recipe.steps}


class JointNetTraining(PhasedTraining):
    """A training of one network.

    Parameters
    ----------
    call
        What is trained.
    files
        Where it leaves its traces; if there is a checkpoint, it goes on from there.
    fabric
        Where it is trained.
    notes
        What was worth saying before it began.
    """

    call: JointNetCall

    def __init__(self, call: JointNetCall, files: Files, fabric: Fabric, notes: Sequence[str] = ()) -> None:
        self.recipe = call.recipe
        self.sampler = LabelledPairSampler(call.material, self.recipe)
        self.validation = JointNetValidation(*call.judging, self.recipe)
        self.objective = JointNetObjective(self.recipe, call.spacing_mm)
        self.machine = Machine(call.network, self.objective, self.recipe, fabric)
        super().__init__(call, files, {_NAME: self.machine}, provenance(call.network))
        self.state = JointState(phase=0 if self.recipe.registration_steps else 1, notes=list(notes))
        if files.checkpoint is not None and Path(files.checkpoint).exists():
            self.resume(Path(files.checkpoint))
        else:
            self.enter_phase()
            self.machine.renew()

    def enter_phase(self) -> None:
        """Tell network and objective which phase it is."""
        self.objective.registers_alone = self.phase == "registration"
        for network in (self.machine.network, self.machine.average):
            if isinstance(network, Phased):
                network.train_phase(self.state.phase + 1)

    @property
    def best_step(self) -> int:
        """The step of the phase whose weights are kept: the best one, or the last one where nobody judged."""
        return self.state.best_step.get(_NAME, self.state.done)

    def turn(self) -> Turn:
        """Always that of the one network, on pairs."""
        done = self.state.done
        chosen = self.sampler.pairs(generator(self.recipe.seed, self.phase, "pairs", done), done)
        return Turn(_NAME, done, self.length, tuple(chosen))

    def rate(self, turn: Turn) -> float:
        """That of the recipe."""
        return rate_at(turn.update, turn.length, self.recipe)

    def seed_words(self, turn: Turn) -> tuple[str | int, ...]:
        """Which step of the phase it is."""
        return "network", turn.update

    def drawn(self, turn: Turn, device: torch.device) -> ShownPairs:
        """The pairs as tensors, augmented."""
        key, material = (self.recipe.seed, self.phase), self.call.material
        pairs = pairs_of(
            material, turn.chosen, device, self.recipe.augmentation, generator(*key, "change", turn.update)
        )
        return ShownPairs(pairs, shown_of(material, turn.chosen, self.recipe, generator(*key, "shown", turn.update)))

    def counts(self, part: str, one: Chosen) -> bool:
        """Whether a pair has such a part of the loss."""
        return self.objective.counts(part, *map(self.call.material.given, (one.fixed, one.moving)))

    def judgements(self) -> Iterator[tuple[str, Callable[[Machine], dict[str, float]]]]:
        """The network, by what labels decide."""
        yield _NAME, lambda machine: self.validation.judge(machine, self.objective)

    def about(self) -> dict[str, float]:
        """How far cross-stitch units are off the identity."""
        return shared(self.machine.average)
