"""Loop of one network: step after step, in two phases for some, judged and saved now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from covoxel.training.averaging import follow, kept_after
from covoxel.training.joint.batch import pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint.recompute import recomputed
from covoxel.training.joint.sampling import LabelledPairSampler
from covoxel.training.joint.state import JointState, load, save
from covoxel.training.joint_net.answer import Phased, shared
from covoxel.training.joint_net.batch import ShownPairs, shown_of
from covoxel.training.joint_net.objective import JointNetObjective
from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.joint_net.validation import JointNetValidation
from covoxel.training.progress import TrainingDivergedError
from covoxel.training.provenance import provenance
from covoxel.training.registration.logs import Logs
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.schedule import rate_at
from covoxel.training.registration.state import Identity, weights_of
from covoxel.training.seeds import generator, seed_of
from covoxel.training.tally import add, mean

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PHASES = ("registration", "joint")
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
    def lengths(self) -> tuple[int, int]:
        """Steps of either phase."""
        return self.recipe.registration_steps, self.recipe.steps


class JointNetTraining:
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

    def __init__(self, call: JointNetCall, files: Files, fabric: Fabric, notes: Sequence[str] = ()) -> None:
        self.call, self.files, self.recipe = call, files, call.recipe
        self.sampler = LabelledPairSampler(call.material, self.recipe)
        self.validation = JointNetValidation(*call.judging, self.recipe)
        self.objective = JointNetObjective(self.recipe, call.spacing_mm)
        self.machine = Machine(call.network, self.objective, self.recipe, fabric)
        self.identity = Identity(self.recipe, call.material.fingerprint, call.material.values, call.spacing_mm)
        self.provenance = provenance(call.network)
        self.state = JointState(phase=0 if self.recipe.registration_steps else 1, notes=list(notes))
        path = files.checkpoint
        if path is not None and Path(path).exists():
            self.state = load(Path(path), self.identity, self.provenance, {_NAME: self.machine})
        self._train_phase()
        self.machine.renew(moments=True)
        self.saved_at = time.monotonic()
        self.logs = Logs(files.logs, self._steps_done)

    # Phases

    def run(self) -> None:
        """Train until the end."""
        try:
            while not self.state.finished:
                if self.state.done == self.length:
                    self._end_phase()
                else:
                    loss = self.step()
                    if self.state.done % self.recipe.check_every == 0 or self.state.done == self.length:
                        self.judge()
                    self._tell(loss)
        finally:
            self.logs.close()

    def _tell(self, loss: float) -> None:
        """Save the state, if it is time, and tell the progress."""
        if time.monotonic() - self.saved_at >= self.files.seconds:
            self.save()
        if self.files.progress is not None:
            self.files.progress(self._steps_done, sum(self.call.lengths), loss)

    @property
    def phase(self) -> str:
        """Name of the phase."""
        return PHASES[self.state.phase]

    @property
    def length(self) -> int:
        """Steps of the phase."""
        return self.call.lengths[self.state.phase]

    @property
    def _steps_done(self) -> int:
        return sum(self.call.lengths[: self.state.phase]) + self.state.done

    def _train_phase(self) -> None:
        """Tell network and objective which phase it is."""
        self.objective.registers_alone = self.phase == "registration"
        for network in (self.machine.network, self.machine.average):
            if isinstance(network, Phased):
                network.train_phase(self.state.phase + 1)

    def _end_phase(self) -> None:
        """Take the best weights, where somebody judged, and go on with the next phase, or finish."""
        state = self.state
        weights = state.best.get(_NAME) or weights_of(self.machine.average)
        for network in (self.machine.network, self.machine.average):
            network.load_state_dict(weights)
        state.finished = state.phase == len(PHASES) - 1
        if not state.finished:
            state.phase, state.done = state.phase + 1, 0
            state.best_loss, state.best_step = {}, {}
            self._train_phase()
        state.best = {}
        self.machine.renew()
        self.save()

    @property
    def best_step(self) -> int:
        """The step of the phase whose weights are kept: the best one, or the last one where nobody judged."""
        return self.state.best_step.get(_NAME, self.state.done)

    # One step

    def step(self) -> float:
        """Train on the next batch; its mean loss."""
        machine, done = self.machine, self.state.done
        chosen = self.sampler.pairs(generator(self.recipe.seed, self.phase, "pairs", done), done)
        parts = machine.fitting(lambda: self._gradients(chosen))
        for note in machine.notes:
            self.state.note(note)
        rate = rate_at(done, self.length, self.recipe)
        for group in machine.optimiser.param_groups:
            group["lr"] = rate
        norm = machine.clip()
        if not (math.isfinite(norm) or machine.scales):
            self._diverged("gradient", float(norm), chosen)
        machine.descend()
        if machine.average is not machine.network:
            follow(machine.average, machine.network, kept_after(done, self.recipe.average))
        self.state.done += 1
        return self._tally(parts, rate, len(chosen))

    def _drawn(self, chosen: Sequence[Chosen]) -> ShownPairs:
        """The pairs as tensors, augmented."""
        key, material = (self.recipe.seed, self.phase), self.call.material
        source = generator(*key, "change", self.state.done)
        pairs = pairs_of(material, chosen, self.machine.device, self.recipe.augmentation, source)
        return ShownPairs(pairs, shown_of(material, chosen, self.recipe, generator(*key, "shown", self.state.done)))

    def _gradients(self, chosen: Sequence[Chosen]) -> dict[str, list[float]]:
        """Parts of the loss of each pair that has them, after their gradient was left in the network."""
        torch.manual_seed(seed_of(self.recipe.seed, self.phase, "network", self.state.done))
        self.machine.network.train()
        result: dict[str, list[float]] = {}

        def watch(rows: slice, parts: dict[str, Tensor]) -> None:
            for name, values in parts.items():
                for pair, number in zip(chosen[rows], values.tolist(), strict=True):
                    if not math.isfinite(number):
                        self._diverged(name, number, [pair])
                    if self.objective.counts(name, *map(self.call.material.given, (pair.fixed, pair.moving))):
                        result.setdefault(name, []).append(number)

        with recomputed(self.machine.network) if self.call.recompute else nullcontext():
            self.machine.gradients(self._drawn(chosen), watch)
        return result

    def _diverged(self, what: str, number: float, chosen: Sequence[Chosen]) -> None:
        cases = self.call.material.cases
        names = ", ".join(f"{cases[pair.fixed].id} and {cases[pair.moving].id}" for pair in chosen)
        raise TrainingDivergedError(
            f"training diverged at step {self.state.done + 1} of {self.length} of phase {self.phase}, fixed and moving "
            f"case {names}: {what} is {number}; the last checkpoint is kept, and a smaller learning_rate may help"
        )

    # The learning curve

    def _tally(self, parts: dict[str, list[float]], rate: float, count: int) -> float:
        """Add the losses of a step to those since the last judgement; the mean loss of the step."""
        loss = sum(math.fsum(values) for values in parts.values()) / count
        means = {"loss": loss, "learning_rate": rate}
        for name, value in means.items():
            add(self.state.sums, name, [value])
        for name, values in parts.items():
            add(self.state.sums, name, values)
            means[name] = math.fsum(values) / len(values)
        self.logs.write("training", means, self._steps_done)
        return loss

    def judge(self) -> None:
        """Ask the validation how good the network is; keep its weights if it never was better in this phase."""
        state, machine = self.state, self.machine
        row: dict[str, Any] = {"phase": self.phase, "step": state.done}
        row |= {name: mean(state.sums, name) for name in state.sums if not name.endswith(" count")}
        means = machine.fitting(lambda: self.validation.judge(machine, self.objective))
        row |= {f"validation_{name}": value for name, value in means.items()} | shared(machine.average)
        self.logs.write("validation", means, self._steps_done)
        if means and means["loss"] < state.best_loss.get(_NAME, math.inf):
            state.best_loss[_NAME], state.best_step[_NAME] = means["loss"], state.done
            state.best[_NAME] = weights_of(machine.average)
        state.curve.append(row)
        state.sums = {}

    def save(self) -> None:
        """Write the state to the checkpoint, if there is to be one."""
        self.saved_at = time.monotonic()
        if self.files.checkpoint is not None:
            save(Path(self.files.checkpoint), self.identity, self.provenance, self.state, {_NAME: self.machine})
