"""State of a joint training: everything that its checkpoint holds and a resumed one needs, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covoxel.memory_errors import is_out_of_memory
from covoxel.training.checkpoint import load_checkpoint, save_checkpoint
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.state import Identity, changed, restore, tensors_of

_WEIGHTS = ("best", "alone")


@dataclass
class JointState:
    """Where a joint training is; the registration network alone is a training of its own, done before.

    Parameters
    ----------
    phase, done
        Which phase, and the steps done in it.
    finished
        Whether there is nothing left to do.
    sums
        Sums and counts of the losses since the last judgement.
    curve
        A row each judgement.
    notes
        What is worth saying.
    best_loss, best_step, best
        Of each network, by name: validation loss, step in the phase and weights of the best in this phase; empty
        where nobody judges.
    alone
        Weights of each network when the joint phase began.
    """

    phase: int = 0
    done: int = 0
    finished: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    best_loss: dict[str, float] = field(default_factory=dict)
    best_step: dict[str, int] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    alone: dict[str, Any] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Keep a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def save(
    path: Path, identity: Identity, provenance: dict[str, Any], state: JointState, machines: Mapping[str, Machine]
) -> None:
    """Write a checkpoint, which appears whole or not at all."""
    numbers = {name: value for name, value in vars(state).items() if name not in _WEIGHTS}
    about = {"identity": identity.plain(), "provenance": provenance, "state": numbers}
    tensors: dict[str, Any] = {name: getattr(state, name) for name in _WEIGHTS}
    tensors["machines"] = {name: tensors_of(machine) for name, machine in machines.items()}
    save_checkpoint(path, about, tensors)


def load(path: Path, identity: Identity, provenance: dict[str, Any], machines: Mapping[str, Machine]) -> JointState:
    """Take networks, averages and optimisers from a checkpoint; the rest of its state is returned.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of another training.
    """
    about, tensors = load_checkpoint(path)
    identity.check(path, about)
    try:
        for name, machine in machines.items():
            restore(machine, tensors["machines"][name])
        state = JointState(**about["state"], **{name: tensors[name] for name in _WEIGHTS})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{path} is of another training: {error}") from error
    for note in changed(about, provenance, state.done):
        state.note(note)
    return state
