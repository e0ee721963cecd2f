"""State of a training: everything that a checkpoint holds and a resumed training needs, and nothing else."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from covoxel.memory_errors import is_out_of_memory
from covoxel.training.checkpoint import load_checkpoint, save_checkpoint
from covoxel.training.registration.machine import Machine


@dataclass
class State:
    """Where a training is.

    Parameters
    ----------
    done
        Steps done; those that early stopping left out of a stage count as done.
    stage
        Which stage of a cascade is trained; 0 for a network that is trained as a whole.
    best_loss, best_step, best
        Validation loss, step and weights of the best network so far.
    worse
        Judgements since the best one.
    stopped_early, finished
        Whether patience ended a stage, and whether there is nothing left to do.
    sums
        Sums and counts of the losses since the last judgement.
    curve
        A row each judgement.
    notes
        What is worth saying.
    """

    done: int = 0
    stage: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    worse: int = 0
    stopped_early: bool = False
    finished: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """All but the weights."""
        return {name: value for name, value in vars(self).items() if name != "best"}

    def portable(self) -> "State":
        """The same with arrays for tensors, whose memory would go with the process that made them."""
        return replace(self, best={name: value.numpy() for name, value in self.best.items()})

    def note(self, sentence: str) -> None:
        """Keep a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


@dataclass(frozen=True)
class Identity:
    """What must be the same for a checkpoint to be of this training.

    Parameters
    ----------
    recipe
        A dataclass of plain values; everything in it counts.
    cases
        Their fingerprint.
    values
        Number of labels.
    spacing_mm
        Of the frame.
    """

    recipe: Any
    cases: str
    values: int
    spacing_mm: tuple[float, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON gives it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def check(self, path: Path, about: dict[str, Any]) -> None:
        """See that the checkpoint at `path`, which says `about` of itself, is of this training.

        Raises
        ------
        ValueError
            If it is not; names the key of the recipe, or else what differs.
        """
        theirs, mine = about.get("identity"), self.plain()
        if not isinstance(theirs, dict):
            raise ValueError(f"{path} is a checkpoint of another kind of training")
        found = [*_differences(theirs.pop("recipe", {}), mine.pop("recipe")), *_differences(theirs, mine)]
        if found:
            sentences = "; ".join(f"its {key} is {their!r}, here {ours!r}" for key, their, ours in found)
            raise ValueError(f"{path} is of another training: {sentences}")


def _differences(theirs: dict[str, Any], mine: dict[str, Any], inside: str = "") -> list[tuple[str, Any, Any]]:
    """Names and both values of what differs; a part of a part has a name with a dot."""
    found: list[tuple[str, Any, Any]] = []
    for key in [*mine, *(key for key in theirs if key not in mine)]:
        their, my = theirs.get(key), mine.get(key)
        if isinstance(their, dict) and isinstance(my, dict):
            found += _differences(their, my, f"{inside}{key}.")
        elif their != my:
            found.append((f"{inside}{key}", their, my))
    return found


def save(path: Path, identity: Identity, provenance: dict[str, Any], state: State, machine: Machine) -> None:
    """Write a checkpoint, which appears whole or not at all."""
    about = {"identity": identity.plain(), "provenance": provenance, "state": state.numbers()}
    save_checkpoint(path, about, {"best": state.best, **tensors_of(machine)})


def tensors_of(machine: Machine) -> dict[str, Any]:
    """State dictionaries of a machine, for a checkpoint."""
    return {
        "network": machine.network.state_dict(),
        "average": {} if machine.average is machine.network else machine.average.state_dict(),
        "optimiser": machine.optimiser.state_dict(),
        "precision": machine.fabric.strategy.precision.state_dict(),
    }


def restore(machine: Machine, tensors: dict[str, Any]) -> None:
    """Give a machine the state that `tensors_of` took."""
    machine.network.load_state_dict(tensors["network"])
    if machine.average is not machine.network:
        machine.average.load_state_dict(tensors["average"])
    machine.optimiser.load_state_dict(tensors["optimiser"])
    machine.fabric.strategy.precision.load_state_dict(tensors["precision"])


def load(path: Path, identity: Identity, provenance: dict[str, Any], machine: Machine) -> State:
    """Take network, average and optimiser from a checkpoint; the rest of its state is returned.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of another training.
    """
    about, tensors = load_checkpoint(path)
    identity.check(path, about)
    try:
        restore(machine, tensors)
        state = State(**about["state"], best=tensors["best"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{path} is of another training: {error}") from error
    for note in changed(about, provenance, state.done):
        state.note(note)
    return state


def changed(about: dict[str, Any], provenance: dict[str, Any], done: int) -> list[str]:
    """A sentence, if the code or the versions that made a checkpoint were not those of today."""
    theirs = about.get("provenance", {})
    names = [name for name in provenance if theirs.get(name) != provenance[name]]
    return [f"the checkpoint after step {done} was made with another {' and '.join(names)}"] if names else []
