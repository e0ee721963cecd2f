"""Phases of a training, one after another: their steps, judged, saved and told now and then, whoever is trained."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pandas as pd
import torch
from torch import Tensor

from covoxel.training.joint.material import Material
from covoxel.training.joint.recompute import recomputed
from covoxel.training.joint.state import JointState, load, save
from covoxel.training.joint.turns import Turn
from covoxel.training.progress import TrainingDivergedError
from covoxel.training.registration.logs import Logs
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.state import Identity, weights_of
from covoxel.training.seeds import seed_of
from covoxel.training.tally import add, mean

if TYPE_CHECKING:
    from covoxel.training.registration.objective import Batch

T = TypeVar("T")


class Judged(Protocol):
    """What is read of a recipe."""

    @property
    def check_every(self) -> int:
        """Steps between judgements."""
        ...

    @property
    def seed(self) -> int:
        """Of everything drawn at random."""
        ...


class Called(Protocol):
    """What is read of a call: what is trained on what."""

    @property
    def material(self) -> Material:
        """All cases, the held-out ones without their labels."""
        ...

    @property
    def recipe(self) -> Judged:
        """How it is trained."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Of the frame."""
        ...

    @property
    def recompute(self) -> bool:
        """Whether features are computed again in the backward pass."""
        ...

    @property
    def phases(self) -> Mapping[str, int]:
        """Steps of each phase, in their order."""
        ...

    @property
    def steps_before(self) -> int:
        """Steps of what was trained before the first phase, which progress counts."""
        ...


class PhasedTraining(ABC):
    """A training of one network or several in turns, in phases; goes on from the weights of one to the next.

    Parameters
    ----------
    call
        What is trained on what.
    files
        Where it leaves its traces.
    machines
        The networks, each on its machine, by name; a single one gives its name to no loss.
    provenance
        What code trains.
    """

    def __init__(
        self, call: Called, files: Files, machines: Mapping[str, Machine], provenance: Mapping[str, Any]
    ) -> None:
        self.call, self.files, self.machines, self.provenance = call, files, machines, dict(provenance)
        self.identity = Identity(call.recipe, call.material.fingerprint, call.material.values, call.spacing_mm)
        self.state = JointState()
        self.saved_at = time.monotonic()
        self.logs = Logs(None, 0)

    # What is trained

    @abstractmethod
    def turn(self) -> Turn:
        """Whose turn it is, and what it learns from."""

    @abstractmethod
    def rate(self, turn: Turn) -> float:
        """Learning rate of a turn."""

    @abstractmethod
    def seed_words(self, turn: Turn) -> Sequence[str | int]:
        """What, with seed and phase, decides what the network draws."""

    @abstractmethod
    def drawn(self, turn: Turn, device: torch.device) -> Batch:
        """What a turn learns from, augmented."""

    @abstractmethod
    def counts(self, part: str, one: Chosen) -> bool:
        """Whether a pair, or image, has such a part of the loss."""

    @abstractmethod
    def judgements(self) -> Iterator[tuple[str, Callable[[Machine], dict[str, float]]]]:
        """Name of each network that is judged in this phase, and who says its losses: none, where nobody can judge."""

    @abstractmethod
    def enter_phase(self) -> None:
        """Make ready for the phase that begins, or is taken up again."""

    def about(self) -> dict[str, float]:
        """What else a row of the learning curve says of the networks."""
        return {}

    # Phases

    @property
    def phase(self) -> str:
        """Name of the phase."""
        return list(self.call.phases)[self.state.phase]

    @property
    def length(self) -> int:
        """Steps of the phase."""
        return self.call.phases[self.phase]

    @property
    def steps_done(self) -> int:
        """Steps of all phases."""
        return sum(list(self.call.phases.values())[: self.state.phase]) + self.state.done

    def resume(self, path: Path) -> None:
        """Go on from the checkpoint at `path`.

        Raises
        ------
        ValueError
            If the file is no checkpoint, or one of another training; names the setting that differs.
        """
        self.state = load(path, self.identity, self.provenance, self.machines)
        self.enter_phase()
        for machine in self.machines.values():
            machine.renew(moments=True)

    def run(self) -> None:
        """Train until the end.

        Raises
        ------
        TrainingDivergedError
            If a loss or gradient is not finite; names phase, cases and what it is. The last checkpoint stays.
        torch.OutOfMemoryError
            If one pair at once is too much for the CPU.
        """
        self.logs = Logs(self.files.logs, self.steps_done)
        try:
            while not self.state.finished:
                if self.state.done == self.length:
                    self.end_phase()
                else:
                    loss = self.step()
                    if self.state.done % self.call.recipe.check_every == 0 or self.state.done == self.length:
                        self.judge()
                    self._tell(loss)
        finally:
            self.logs.close()

    def _tell(self, loss: float) -> None:
        """Save the state, if it is time, and tell the progress."""
        if time.monotonic() - self.saved_at >= self.files.seconds:
            self.save()
        if self.files.progress is not None:
            before = self.call.steps_before
            self.files.progress(before + self.steps_done, before + sum(self.call.phases.values()), loss)

    def end_phase(self) -> None:
        """Take the best weights, where somebody judged, and go on with the next phase, or finish."""
        state = self.state
        for name, machine in self.machines.items():
            weights = state.best.get(name) or weights_of(machine.average)
            for network in (machine.network, machine.average):
                network.load_state_dict(weights)
        state.best = {}
        state.finished = state.phase == len(self.call.phases) - 1
        if not state.finished:
            state.phase, state.done = state.phase + 1, 0
            state.best_loss, state.best_step = {}, {}
            self.enter_phase()
        for machine in self.machines.values():
            machine.renew()
        self.save()

    def save(self) -> None:
        """Write the state to the checkpoint, if there is to be one."""
        self.saved_at = time.monotonic()
        if self.files.checkpoint is not None:
            save(Path(self.files.checkpoint), self.identity, self.provenance, self.state, self.machines)

    # One step

    def step(self) -> float:
        """Train one network on its next batch; its mean loss."""
        turn = self.turn()
        machine, rate = self.machines[turn.name], self.rate(turn)
        parts = self._fitting(machine, lambda: self._gradients(machine, turn))
        machine.descend(rate, turn.update, lambda what, norm: self._diverged(turn, what, norm, turn.chosen))
        self.state.done += 1
        return self._tally(turn, parts, rate)

    def _gradients(self, machine: Machine, turn: Turn) -> dict[str, list[float]]:
        """Parts of the loss of each pair or image that has them, after their gradient was left in the network."""
        torch.manual_seed(seed_of(self.call.recipe.seed, self.phase, *self.seed_words(turn)))
        machine.network.train()
        result: dict[str, list[float]] = {}

        def watch(rows: slice, parts: dict[str, Tensor]) -> None:
            for name, values in parts.items():
                numbers, chosen = values.tolist(), turn.chosen[rows]
                for one, number in zip(chosen, numbers, strict=True):
                    if not math.isfinite(number):
                        self._diverged(turn, name, number, [one])
                counting = (n for one, n in zip(chosen, numbers, strict=True) if self.counts(name, one))
                result.setdefault(name, []).extend(counting)

        with recomputed(machine.network) if self.call.recompute else nullcontext():
            machine.gradients(self.drawn(turn, machine.device), watch)
        return result

    def _fitting(self, machine: Machine, work: Callable[[], T]) -> T:
        """The result of `work` with the memory there is; where one network has to go, the others go too."""
        result = machine.fitting(work)
        if machine.where == "cpu":
            for other in self.machines.values():
                if other.where != "cpu":
                    other.to_cpu()
        for note in machine.notes:
            self.state.note(note)
        return result

    def _diverged(self, turn: Turn, what: str, number: float, chosen: Sequence[Chosen]) -> None:
        names = [case.id for case in self.call.material.cases]
        pairs = [
            names[one.fixed] if one.fixed == one.moving else f"{names[one.fixed]} and {names[one.moving]}"
            for one in chosen
        ]
        kind = "case" if all(one.fixed == one.moving for one in chosen) else "fixed and moving case"
        raise TrainingDivergedError(
            f"training{f' of the {turn.name} network' * self._several} diverged at step {self.state.done + 1} of "
            f"{self.length} of phase {self.phase}, {kind} {', '.join(pairs)}: {what} is {number}; the last checkpoint "
            f"is kept, and a smaller learning_rate may help"
        )

    # The learning curve

    @property
    def _several(self) -> bool:
        return len(self.machines) > 1

    def _tally(self, turn: Turn, parts: dict[str, list[float]], rate: float) -> float:
        """Add the losses of a step to those since the last judgement; the mean loss of the step."""
        loss = sum(math.fsum(values) for values in parts.values()) / len(turn.chosen)
        given = {name: values for name, values in parts.items() if values}
        for name, values in {"loss": [loss], "learning_rate": [rate], **given}.items():
            add(self.state.sums, f"{turn.name}_" * self._several + name, values)
        means = {name: math.fsum(values) / len(values) for name, values in given.items()}
        kind = "training" + f" {turn.name}" * self._several
        self.logs.write(kind, {"loss": loss, "learning_rate": rate, **means}, self.steps_done)
        return loss

    def judge(self) -> None:
        """Ask the validation how good the networks are; keep the weights of one that never was better in this phase."""
        state = self.state
        row: dict[str, Any] = {"phase": self.phase, "step": state.done}
        row |= {name: mean(state.sums, name) for name in state.sums if not name.endswith(" count")}
        for name, judge in self.judgements():
            machine = self.machines[name]
            means = self._fitting(machine, partial(judge, machine))
            whose = "validation_" + f"{name}_" * self._several
            row |= {whose + part: value for part, value in means.items()}
            self.logs.write("validation" + f" {name}" * self._several, means, self.steps_done)
            if means and means["loss"] < state.best_loss.get(name, math.inf):
                state.best_loss[name], state.best_step[name] = means["loss"], state.done
                state.best[name] = weights_of(machine.average)
        state.curve.append(row | self.about())
        state.sums = {}


def curve_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table; columns in an order that does not depend on that in a file."""
    first = ["phase", "step"]
    return pd.DataFrame(rows, columns=[*first, *sorted({name for row in rows for name in row} - set(first))])
