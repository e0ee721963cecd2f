"""Machine: where a network is trained, in which precision and how many pairs at once; goes smaller when memory ends."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from covoxel.memory_errors import is_out_of_memory
from covoxel.training.averaging import follow, kept_after
from covoxel.training.registration.objective import Batch, Score, Scored, Sealed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_LOG = logging.getLogger(__name__)

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Loss = Callable[[dict[str, Tensor]], Tensor]
T = TypeVar("T")


class Optimisation(Protocol):
    """What is read of a recipe; see `Recipe`."""

    @property
    def batch(self) -> int:
        """Pairs in a step."""
        ...

    @property
    def learning_rate(self) -> float:
        """At its highest."""
        ...

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of the gradient."""
        ...

    @property
    def average(self) -> float:
        """What the running average keeps."""
        ...


def make_fabric(device: torch.device, precision: Precision, devices: int = 1) -> Fabric:
    """Fabric for one device, or for `devices` of its kind."""
    from lightning_fabric import Fabric  # takes seconds, and is needed by nothing else
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    chosen: Any = devices if devices > 1 else 1 if device.index is None else [device.index]
    strategy = "ddp_spawn" if devices > 1 else "auto"
    here = LightningEnvironment()  # processes are our own, whatever scheduler started this one
    return Fabric(accelerator=device.type, devices=chosen, strategy=strategy, precision=precision, plugins=[here])


class Machine:
    """A network and its optimiser on a device.

    Parameters
    ----------
    network
        Changed in place.
    objective
        What it is trained on.
    recipe
        Batch and optimiser.
    fabric
        Device and precision; launched, if there are several devices.

    Attributes
    ----------
    average
        Running average of the network; the network itself, if the recipe wants none.
    notes
        What was changed because memory ended, a sentence each.
    """

    def __init__(self, network: nn.Module, objective: Score, recipe: Optimisation, fabric: Fabric) -> None:
        self.network, self.objective, self.recipe, self.fabric = network, objective, recipe, fabric
        self.notes: list[str] = []
        self.rows = recipe.batch
        self._set_up(None)
        self.average = copy.deepcopy(network) if recipe.average else network

    @property
    def where(self) -> str:
        """Kind of the device."""
        return self.device.type

    @property
    def device(self) -> torch.device:
        """Where computation is."""
        return self.fabric.device

    def _set_up(self, state: dict[str, Any] | None) -> None:
        recipe, scored = self.recipe, Scored(self.network, self.objective)
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._module, self.optimiser = self.fabric.setup(scored, optimiser)
        if state is not None:
            self.optimiser.load_state_dict(state)

    def renew(self, *, moments: bool = False) -> None:
        """Tell Fabric which weights are trained now; the optimiser forgets its moments, unless they are to be kept."""
        self._set_up(self.optimiser.state_dict() if moments else None)

    # Memory

    def fitting(self, work: Callable[[], T]) -> T:
        """The result of `work`; when memory ends, again with half the pairs at once, and at one pair on the CPU."""
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.fabric.world_size > 1 or not self._smaller():
                    raise
                _LOG.warning("%s (%s)", self.notes[-1], str(error).partition("\n")[0])

    def _smaller(self) -> bool:
        """Whether there was a way to need less memory."""
        self.network.zero_grad(set_to_none=True)
        where = self.where
        if self.rows > 1:
            self.rows = -(-self.rows // 2)
            pairs = "one pair" if self.rows == 1 else f"{self.rows} pairs"
            self.notes.append(
                f"{where} ran out of memory: {pairs} at once, gradients added up, so that a step is still of "
                f"{self.recipe.batch}"
            )
        elif where != "cpu":
            self.notes.append(f"{where} ran out of memory at one pair: training went on on the CPU")
            self.to_cpu()
        else:
            return False
        if where != "cpu":
            torch.cuda.empty_cache()
        return True

    def to_cpu(self) -> None:
        """Go on with the CPU: network, average and optimiser."""
        state = self.optimiser.state_dict()
        self.network.cpu()
        self.average.cpu()
        self.fabric = make_fabric(torch.device("cpu"), "32-true")
        self.rows = self.recipe.batch
        self._set_up(state)

    def slices(self, count: int) -> list[slice]:
        """Which of this process' `count` pairs go through the network together."""
        return [slice(first, min(first + self.rows, count)) for first in range(0, count, self.rows)]

    # Work

    def gradients(self, pairs: Batch, watch: Callable[[slice, dict[str, Tensor]], None]) -> None:
        """Leave the gradient of the mean loss of all pairs in the network.

        Parameters
        ----------
        pairs
            Of the whole batch; with several devices each takes its share.
        watch
            Told the parts of the loss, and of which pairs they are, before there are gradients of them; may raise.
        """
        self.optimiser.zero_grad(set_to_none=True)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        mine = pairs.rows(slice(rank, None, world))
        for chunk in self.slices(len(mine)):
            parts = self._module(Sealed(mine.rows(chunk)))
            watch(slice(rank + chunk.start * world, rank + chunk.stop * world, world), parts)
            loss = torch.stack(list(parts.values())).sum() * world / len(pairs)
            self.fabric.backward(loss)

    def descend(self, rate: float, done: int, diverged: Callable[[str, float], None]) -> None:
        """One step of the optimiser along the gradient, shortened to the recipe's norm; the average follows.

        Parameters
        ----------
        rate
            Learning rate.
        done
            Steps before this one, by which the average knows how much it keeps.
        diverged
            Told "gradient" and its norm, if that is not finite; must raise. Gradients that are scaled are let pass:
            the step is then skipped, and the scale made smaller.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        clipped = self.fabric.clip_gradients(
            self._module, self.optimiser, max_norm=self.recipe.clip, error_if_nonfinite=False
        )
        assert clipped is not None
        norm = float(clipped)
        if not (math.isfinite(norm) or self._scales):
            diverged("gradient", norm)
        self.optimiser.step()
        if self.average is not self.network:
            follow(self.average, self.network, kept_after(done, self.recipe.average))

    @property
    def _scales(self) -> bool:
        """Whether gradients are scaled, so that one that is not finite is skipped and the scale made smaller."""
        return self.fabric.strategy.precision.precision == "16-mixed"

    @torch.no_grad()
    def judged(self, network: nn.Module, pairs: Callable[[slice], Batch], count: int) -> dict[str, list[float]]:
        """Parts of the loss of each of `count` pairs under `network` as it answers out of training."""
        network.eval()
        parts: dict[str, list[float]] = {}
        for chunk in self.slices(count):
            with self.fabric.autocast():
                said = self.objective(network, pairs(chunk))
            for name, values in said.items():
                parts.setdefault(name, []).extend(values.double().tolist())
        return parts
