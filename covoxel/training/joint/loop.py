"""Loop of joint training: the segmentation network alone, then both in turns, judged and saved now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from covoxel.training.averaging import follow, kept_after
from covoxel.training.joint.batch import Images, JointPairs, images_of, pairs_of
from covoxel.training.joint.complementary import partway
from covoxel.training.joint.material import Given, Material
from covoxel.training.joint.objectives import objectives_of
from covoxel.training.joint.patches import Patches
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.joint.recompute import recomputed
from covoxel.training.joint.sampling import JointSampler
from covoxel.training.joint.state import JointState, load, save
from covoxel.training.joint.turns import PHASES, Turn, turn_at
from covoxel.training.joint.validation import JointValidation
from covoxel.training.progress import TrainingDivergedError
from covoxel.training.provenance import provenance
from covoxel.training.registration.answer import Staged
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

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class JointCall:
    """What is trained on what; see `train_joint`.

    Parameters
    ----------
    registration, segmentation
        The networks.
    material
        All cases, the held-out ones without their labels.
    judging
        All cases with their labels, and the names of the held-out ones.
    recipe, spacing_mm, recompute
        See `train_joint`.
    discriminator
        A third network, if the recipe has one.
    """

    registration: nn.Module
    segmentation: nn.Module
    material: Material
    judging: tuple[Material, tuple[str, ...]]
    recipe: JointRecipe
    spacing_mm: tuple[float, ...]
    recompute: bool
    discriminator: nn.Module | None = None

    @property
    def steps(self) -> int:
        """Steps of all phases, that of the registration network alone included."""
        return self.recipe.steps_alone + self.recipe.segmentation_steps + self.recipe.joint_steps

    def check(self) -> None:
        """See, before anything is trained, that recipe and cases go together.

        Raises
        ------
        ValueError
            If a loss is not registered, no pair can be made for the joint phase, patches have not as many sides as
            images, or there is a discriminator without need or none where one is needed.
        """
        objectives_of(self)
        Patches(self.material, self.recipe.patch)
        if self.recipe.joint_steps:
            JointSampler(self.material, self.recipe).check_pairs()


class JointTraining:
    """A joint training from the end of the registration network's own on.

    Parameters
    ----------
    call
        What is trained.
    files
        Where it leaves its traces.
    fabric
        Where it is trained.
    """

    def __init__(self, call: JointCall, files: Files, fabric: Fabric) -> None:
        self.call, self.files, self.recipe = call, files, call.recipe
        self.sampler = JointSampler(call.material, self.recipe)
        self.validation = JointValidation(*call.judging, self.recipe)
        self.patches = Patches(call.material, self.recipe.patch)
        objectives = objectives_of(call)
        self.compared = objectives.registration.compared
        if isinstance(call.registration, Staged):
            call.registration.train_stage(None)
        self.machines = {
            name: Machine(network, objective, how, fabric) for name, network, objective, how in objectives.trained(call)
        }
        objectives.introduce({name: machine.average for name, machine in self.machines.items()})
        self.identity = Identity(self.recipe, call.material.fingerprint, call.material.values, call.spacing_mm)
        self.provenance = provenance(call.registration)
        self.provenance["code of segmentation"] = provenance(call.segmentation)["code"]
        if call.discriminator is not None:
            self.provenance["code of discriminator"] = provenance(call.discriminator)["code"]
        self.state = JointState()
        self.saved_at = time.monotonic()
        self.logs = Logs(None, 0)

    # Phases

    def begin(self, curve: list[dict[str, Any]], notes: list[str]) -> None:
        """Begin with what came before: its learning curve, and what was worth saying."""
        self.state.curve, self.state.notes = curve, notes
        self.save()

    def resume(self, path: Path) -> None:
        """Go on from the checkpoint at `path`."""
        self.state = load(path, self.identity, self.provenance, self.machines)
        for machine in self.machines.values():
            machine.renew(moments=True)

    def run(self) -> None:
        """Train until the end."""
        self.logs = Logs(self.files.logs, self._steps_before() + self.state.done)
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
            done = self.recipe.steps_alone + self._steps_before() + self.state.done
            self.files.progress(done, self.call.steps, loss)

    @property
    def phase(self) -> str:
        """Name of the phase."""
        return PHASES[self.state.phase]

    @property
    def _lengths(self) -> tuple[int, int]:
        return self.recipe.segmentation_steps, self.recipe.joint_steps

    @property
    def length(self) -> int:
        """Steps of the phase."""
        return self._lengths[self.state.phase]

    def _steps_before(self) -> int:
        return sum(self._lengths[: self.state.phase])

    def _end_phase(self) -> None:
        """Take the best weights, where somebody judged, and go on with the next phase, or finish."""
        state = self.state
        for name, machine in self.machines.items():
            weights = state.best.get(name) or weights_of(machine.average)
            for network in (machine.network, machine.average):
                network.load_state_dict(weights)
            machine.renew()
        state.best_loss, state.best_step, state.best = {}, {}, {}
        if state.phase == 0:
            state.alone = {name: weights_of(machine.network) for name, machine in self.machines.items()}
        state.finished = state.phase == len(PHASES) - 1
        if not state.finished:
            state.phase, state.done = state.phase + 1, 0
        self.save()

    # One step

    def step(self) -> float:
        """Train one network on its next batch; its mean loss."""
        turn = self._turn()
        machine = self.machines[turn.name]
        parts = self._fitting(machine, lambda: self._gradients(machine, turn))
        rate = rate_at(turn.update, turn.length, machine.recipe)  # type: ignore[arg-type]
        rate *= self.recipe.joint_rate if self.phase == "joint" and turn.name != "discriminator" else 1.0
        for group in machine.optimiser.param_groups:
            group["lr"] = rate
        norm = machine.clip()
        if not (math.isfinite(norm) or machine.scales):
            self._diverged(turn, "gradient", float(norm), turn.chosen)
        machine.descend()
        if machine.average is not machine.network:
            follow(machine.average, machine.network, kept_after(turn.update, machine.recipe.average))
        self.state.done += 1
        return self._tally(turn, parts, rate)

    def _turn(self) -> Turn:
        """Whose turn it is, and what it learns from."""
        turn = turn_at(self.state.done, self.length, self.phase, self.recipe)
        source = generator(self.recipe.seed, self.phase, turn.name, turn.update)
        if turn.name == "registration":
            chosen = self.sampler.registration(source, turn.update)
        elif turn.name == "discriminator":
            chosen = self.sampler.any_pairs(source, self.machines["discriminator"].recipe.batch)
        else:
            chosen = (
                self.sampler.half_labelled(source) if self._from_pairs else self.sampler.images(source, turn.update)
            )
        return replace(turn, chosen=tuple(chosen))

    @property
    def _from_pairs(self) -> bool:
        """Whether the segmentation network learns from pairs in this phase."""
        through, one = self.recipe.through_registration, len(self.sampler.true) == 1
        wanted = self.phase == "joint" or through == "always" or (through == "one_label" and one)
        return wanted and self.sampler.has_half_labelled and self.recipe.carries

    def _drawn(self, turn: Turn, device: torch.device) -> JointPairs | Images:
        """The batch as tensors, cut to patches and augmented."""
        recipe, material = self.recipe, self.call.material

        def source(what: str) -> torch.Generator:
            return generator(recipe.seed, self.phase, turn.name, turn.update, what)

        boxes = self.patches.draw(turn.chosen, source("patch"))
        if turn.name != "segmentation" or self._from_pairs:
            how = recipe.registration.augmentation
            pairs = pairs_of(material, turn.chosen, device, how, source("change"), boxes)
            return partway(pairs, recipe.complementary, source("partway"))
        places = [one.fixed for one in turn.chosen]
        return images_of(material, places, device, recipe.segmentation.augmentation, source("change"), boxes)

    def _gradients(self, machine: Machine, turn: Turn) -> dict[str, list[float]]:
        """Parts of the loss of each pair or image, after their gradient was left in the network."""
        torch.manual_seed(seed_of(self.recipe.seed, self.phase, turn.name, turn.update, "network"))
        machine.network.train()
        result: dict[str, list[float]] = {}

        def watch(rows: slice, parts: dict[str, Tensor]) -> None:
            for name, values in parts.items():
                numbers, chosen = values.tolist(), turn.chosen[rows]
                for one, number in zip(chosen, numbers, strict=True):
                    if not math.isfinite(number):
                        self._diverged(turn, name, number, [one])
                counting = (n for one, n in zip(chosen, numbers, strict=True) if self._counts(name, one))
                result.setdefault(name, []).extend(counting)

        with recomputed(machine.network) if self.call.recompute else nullcontext():
            machine.gradients(self._drawn(turn, machine.device), watch)
        return result

    def _fitting(self, machine: Machine, work: Callable[[], T]) -> T:
        """The result of `work` with the memory there is; where one network has to go, the other goes too."""
        result = machine.fitting(work)
        if machine.where == "cpu":
            for other in self.machines.values():
                if other.where != "cpu":
                    other.to_cpu()
        for note in machine.notes:
            self.state.note(note)
        return result

    def _counts(self, name: str, one: Chosen) -> bool:
        """Whether a pair, or image, has such a part of the loss."""
        given = [self.call.material.given(place) for place in {one.fixed, one.moving}]
        true = given.count(Given.TRUE)
        if name == "labels":
            return self.compared(true)
        if name == "anatomy":
            return len(given) == 2 and true == 1
        if name == "confidence":
            return true == 1 and self.call.material.given(one.moving) is Given.TRUE
        if name == "fused":
            return Given.FUSED in given
        return true > 0 if name == "supervised" else True

    def _diverged(self, turn: Turn, what: str, number: float, chosen: Sequence[Chosen]) -> None:
        names = [case.id for case in self.call.material.cases]
        pairs = [
            names[one.fixed] if one.fixed == one.moving else f"{names[one.fixed]} and {names[one.moving]}"
            for one in chosen
        ]
        raise TrainingDivergedError(
            f"training of the {turn.name} network diverged at step {self.state.done + 1} of {self.length} of phase "
            f"{self.phase}, case {', '.join(pairs)}: {what} is {number}; the last checkpoint is kept, and a smaller "
            f"learning_rate may help"
        )

    # The learning curve

    def _tally(self, turn: Turn, parts: dict[str, list[float]], rate: float) -> float:
        """Add the losses of a step to those since the last judgement; the mean loss of the step."""
        loss = sum(math.fsum(values) for values in parts.values()) / len(turn.chosen)
        sums, name = self.state.sums, turn.name
        add(sums, f"{name}_loss", [loss])
        add(sums, f"{name}_learning_rate", [rate])
        means = {"loss": loss, "learning_rate": rate}
        for part, values in parts.items():
            if values:
                add(sums, f"{name}_{part}", values)
                means[part] = math.fsum(values) / len(values)
        self.logs.write(f"training {name}", means, self._steps_before() + self.state.done)
        return loss

    def judge(self) -> None:
        """Ask the validation how good the networks are; keep the weights of one that never was better."""
        state = self.state
        row: dict[str, Any] = {"phase": self.phase, "step": state.done}
        row |= {name: mean(state.sums, name) for name in state.sums if not name.endswith(" count")}
        judged = {"segmentation": self.validation.segmentation}
        if self.phase == "joint":
            judged["registration"] = self.validation.registration
        for name, judge in judged.items():
            machine = self.machines[name]
            means = self._fitting(machine, lambda: judge(machine))  # noqa: B023, called at once
            row |= {f"validation_{name}_{part}": value for part, value in means.items()}
            self.logs.write(f"validation {name}", means, self._steps_before() + state.done)
            if means and means["loss"] < state.best_loss.get(name, math.inf):
                state.best_loss[name], state.best_step[name] = means["loss"], state.done
                state.best[name] = weights_of(machine.average)
        state.curve.append(row)
        state.sums = {}

    def save(self) -> None:
        """Write the state to the checkpoint, if there is to be one."""
        self.saved_at = time.monotonic()
        if self.files.checkpoint is not None:
            save(Path(self.files.checkpoint), self.identity, self.provenance, self.state, self.machines)
