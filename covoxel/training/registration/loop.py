"""Loop: step after step, judged now and then, saved now and then, until the steps or the patience are used up."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from covoxel.training.progress import Progress, TrainingDivergedError
from covoxel.training.provenance import provenance
from covoxel.training.registration.answer import Staged, stages_of
from covoxel.training.registration.cases import TrainingCase, fingerprint
from covoxel.training.registration.logs import Logs
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.objective import PARTS, Objective
from covoxel.training.registration.pairs import Pairs, augmented_pairs
from covoxel.training.registration.recipe import Recipe
from covoxel.training.registration.sampling import Chosen, PairSampler
from covoxel.training.registration.schedule import Schedule
from covoxel.training.registration.split import split
from covoxel.training.registration.state import Identity, State, load, save, weights_of
from covoxel.training.registration.terms import Terms
from covoxel.training.registration.validation import Validation
from covoxel.training.registration.warps import synthetic_pairs
from covoxel.training.seeds import generator, seed_of
from covoxel.training.tally import add, mean

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class Call:
    """What is trained on what; see `train_registration`."""

    network: nn.Module
    cases: Sequence[TrainingCase]
    recipe: Recipe
    values: int
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Files:
    """Where a training leaves its traces; see `train_registration`."""

    checkpoint: Path | None
    seconds: float
    logs: Path | None
    progress: Progress | None


def work(fabric: Fabric, call: Call, files: Files) -> State:
    """Train in this process, one of several perhaps; where the training is when it ends."""
    several = fabric.world_size > 1
    network = copy.deepcopy(call.network) if several else call.network
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        training = _Training(network, call, files, fabric)
        try:
            training.run()
        finally:
            training.logs.close()
    return training.state.portable() if several else training.state


class _Training:
    """A training in one process."""

    def __init__(self, network: nn.Module, call: Call, files: Files, fabric: Fabric) -> None:
        self.network, self.call, self.files, self.recipe = network, call, files, call.recipe
        parts = split(call.cases, self.recipe)
        self.sampler = PairSampler(call.cases, parts.teaching, self.recipe)
        self.validation = Validation(call.cases, parts, self.recipe, call.values)
        objective = Objective(self.recipe, Terms(self.recipe, call.spacing_mm))
        self.machine = Machine(network, objective, self.recipe, fabric)
        self.schedule = Schedule(self.recipe, stages_of(network))
        self.identity = Identity(self.recipe, fingerprint(call.cases), call.values, call.spacing_mm)
        self.provenance = provenance(network)
        self.state = State(notes=[*parts.notes, *self.validation.notes])
        if files.checkpoint is not None and Path(files.checkpoint).exists():
            self.state = load(Path(files.checkpoint), self.identity, self.provenance, self.machine)
        self._train_stage()
        self.machine.renew(moments=True)
        first = fabric.global_rank == 0
        self.logs = Logs(files.logs if first else None, self.state.done)
        self.progress = files.progress if first else None
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Train until the end."""
        while not self.state.finished:
            loss = self.step()
            done = self.state.done
            if done % self.recipe.check_every == 0 or done == self.schedule.end(self.state.stage):
                self.judge()
            if self.state.finished or self._is_time():
                self.save()
            if self.progress is not None:
                self._tell(self.progress, loss)

    def _tell(self, progress: Progress, loss: float) -> None:
        """Tell of the step; one who ends the training so loses nothing."""
        try:
            progress(self.state.done, self.recipe.steps, loss)
        except BaseException:
            self.save()
            raise

    # One step

    def step(self) -> float:
        """Train on the next batch; its mean loss."""
        step = self.state.done
        chosen = self.sampler.step(step)
        rate = self.schedule.rate(step, self.state.stage)
        parts = self.machine.fitting(lambda: self._gradients(chosen, step))
        self.machine.descend(rate, step, lambda what, norm: self._diverged(what, norm, chosen))
        self.state.done += 1
        self._note_machine()
        return self._tally(parts, rate)

    def _gradients(self, chosen: list[Chosen], step: int) -> dict[str, list[float]]:
        """Parts of the loss of each pair, after their gradient was left in the network."""
        torch.manual_seed(seed_of(self.recipe.seed, "network", step))
        self.network.train()
        result: dict[str, list[float]] = {}

        def watch(rows: slice, parts: dict[str, Tensor]) -> None:
            for name, values in parts.items():
                result.setdefault(name, []).extend(self._finite(name, values.tolist(), chosen[rows]))

        self.machine.gradients(self._pairs(chosen, step), watch)
        return result

    def _finite(self, name: str, numbers: list[float], pairs: list[Chosen]) -> list[float]:
        """The numbers of the pairs that have such a part of the loss, if they are finite."""
        for pair, number in zip(pairs, numbers, strict=True):
            if not math.isfinite(number):
                self._diverged(name, number, [pair])
        return [n for pair, n in zip(pairs, numbers, strict=True) if name != "labels" or pair.labelled]

    def _pairs(self, chosen: list[Chosen], step: int) -> Pairs:
        source = generator(self.recipe.seed, "change", step)
        cases, device, paint = self.call.cases, self.machine.device, self.recipe.augmentation
        if self.recipe.supervision != "warps":
            return augmented_pairs(cases, chosen, self.call.values, paint, source, device)
        still = step < self.recipe.warps.still * self.recipe.steps
        images = [cases[pair.fixed] for pair in chosen]
        return synthetic_pairs(images, self.recipe.warps, paint, source, device, still=still)

    def _diverged(self, what: str, number: float, pairs: Sequence[Chosen]) -> None:
        cases = self.call.cases
        names = ", ".join(f"{cases[pair.fixed].id} and {cases[pair.moving].id}" for pair in pairs)
        raise TrainingDivergedError(
            f"training diverged at step {self.state.done + 1} of {self.recipe.steps}, fixed and moving case {names}: "
            f"{what} is {number}; the last checkpoint is kept, and a smaller learning_rate may help"
        )

    def _note_machine(self) -> None:
        for note in self.machine.notes:
            self.state.note(note)

    # The learning curve

    def _tally(self, parts: dict[str, list[float]], rate: float) -> float:
        """Add the losses of a step to those since the last judgement; the mean loss of the step."""
        loss = sum(math.fsum(values) for values in parts.values()) / len(parts["regularity"])  # every pair has that
        add(self.state.sums, "loss", [loss])
        for name, values in parts.items():
            add(self.state.sums, name, values)
        means = {name: math.fsum(values) / len(values) for name, values in parts.items() if values}
        self.logs.write("training", {"loss": loss, "learning_rate": rate, **means}, self.state.done)
        return loss

    # Judgement

    def judge(self) -> None:
        """Ask the validation how good the network is; keep its weights if it never was better."""
        state = self.state
        means = self.machine.fitting(lambda: self.validation.judge(self.machine.average, self.machine))
        means = self.machine.fabric.broadcast(means)
        self._note_machine()
        self.logs.write("validation", means, state.done)
        rate = self.schedule.rate(state.done - 1, state.stage)
        row: dict[str, float] = {"step": state.done, "learning_rate": rate, "loss": mean(state.sums, "loss")}
        row |= {name: mean(state.sums, name) for name in PARTS if name in state.sums}
        state.curve.append(row | {f"validation_{name}": value for name, value in means.items()})
        state.sums = {}
        state.worse += 1
        if means["loss"] < state.best_loss or not state.best:
            state.best_loss, state.best_step, state.worse = means["loss"], state.done, 0
            state.best = weights_of(self.machine.average)
        if state.worse >= self.recipe.patience:
            state.stopped_early = True
            self._end_stage()
        elif state.done == self.schedule.end(state.stage):
            self._end_stage()

    def _end_stage(self) -> None:
        """Go on with the next stage, from the best weights so far; or finish."""
        if self.state.stage == self.schedule.stages - 1:
            self.state.finished = True
            return
        self.state.done = self.schedule.end(self.state.stage)
        self.state.stage += 1
        self.state.worse = 0
        for network in (self.network, self.machine.average):
            network.load_state_dict(self.state.best)
        self._train_stage()
        self.machine.renew()

    def _train_stage(self) -> None:
        if self.schedule.stages > 1:
            for network in (self.network, self.machine.average):
                if isinstance(network, Staged):
                    network.train_stage(self.state.stage)

    # Checkpoints

    def _is_time(self) -> bool:
        return time.monotonic() - self.saved_at >= self.files.seconds

    def save(self) -> None:
        """Write the state to the checkpoint, if there is to be one."""
        self.saved_at = time.monotonic()
        if self.files.checkpoint is not None and self.machine.fabric.global_rank == 0:
            path = Path(self.files.checkpoint)
            save(path, self.identity, self.provenance, self.state, self.machine)
