"""Joint training: the segmentation network alone, then both in turns, a discriminator beside them perhaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from covoxel.training.joint.batch import Images, JointPairs, images_of, pairs_of
from covoxel.training.joint.complementary import partway
from covoxel.training.joint.material import Given, Material
from covoxel.training.joint.objectives import objectives_of
from covoxel.training.joint.patches import Patches
from covoxel.training.joint.phased import PhasedTraining
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.joint.sampling import JointSampler
from covoxel.training.joint.turns import Turn, turn_at
from covoxel.training.joint.validation import JointValidation
from covoxel.training.provenance import provenance
from covoxel.training.registration.answer import Staged
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import Machine
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.schedule import rate_at
from covoxel.training.registration.state import weights_of
from covoxel.training.seeds import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric


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
    def steps_before(self) -> int:
        """Steps of the registration network alone."""
        return self.recipe.steps_alone

    @property
    def phases(self) -> dict[str, int]:
        """Steps of each phase after that."""
        return {"segmentation": self.recipe.segmentation_steps, "joint": self.recipe.joint_steps}

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


class JointTraining(PhasedTraining):
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

    call: JointCall

    def __init__(self, call: JointCall, files: Files, fabric: Fabric) -> None:
        self.recipe = call.recipe
        self.sampler = JointSampler(call.material, self.recipe)
        self.validation = JointValidation(*call.judging, self.recipe)
        self.patches = Patches(call.material, self.recipe.patch)
        objectives = objectives_of(call)
        self.compared = objectives.registration.compared
        if isinstance(call.registration, Staged):
            call.registration.train_stage(None)
        machines = {
            name: Machine(network, objective, how, fabric) for name, network, objective, how in objectives.trained(call)
        }
        objectives.introduce({name: machine.average for name, machine in machines.items()})
        trained = provenance(call.registration) | {"code of segmentation": provenance(call.segmentation)["code"]}
        if call.discriminator is not None:
            trained["code of discriminator"] = provenance(call.discriminator)["code"]
        super().__init__(call, files, machines, trained)

    def begin(self, curve: list[dict[str, Any]], notes: list[str]) -> None:
        """Begin with what came before: its learning curve, and what was worth saying."""
        self.state.curve, self.state.notes = curve, notes
        self.save()

    def enter_phase(self) -> None:
        """Keep the networks as they were before the joint phase."""
        if self.phase == "joint" and not self.state.alone:
            self.state.alone = {name: weights_of(machine.network) for name, machine in self.machines.items()}

    def turn(self) -> Turn:
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

    def rate(self, turn: Turn) -> float:
        """That of the network's recipe; smaller in the joint phase, but for the discriminator, which begins there."""
        rate = rate_at(turn.update, turn.length, self.machines[turn.name].recipe)  # type: ignore[arg-type]
        return rate * (self.recipe.joint_rate if self.phase == "joint" and turn.name != "discriminator" else 1.0)

    def seed_words(self, turn: Turn) -> tuple[str | int, ...]:
        """Whose turn it is, and which."""
        return turn.name, turn.update, "network"

    def drawn(self, turn: Turn, device: torch.device) -> JointPairs | Images:
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

    def counts(self, part: str, one: Chosen) -> bool:
        """Whether a pair, or image, has such a part of the loss."""
        given = [self.call.material.given(place) for place in {one.fixed, one.moving}]
        true = given.count(Given.TRUE)
        if part == "labels":
            return self.compared(true)
        if part == "anatomy":
            return len(given) == 2 and true == 1
        if part == "confidence":
            return true == 1 and self.call.material.given(one.moving) is Given.TRUE
        if part == "fused":
            return Given.FUSED in given
        return true > 0 if part == "supervised" else True

    def judgements(self) -> Iterator[tuple[str, Callable[[Machine], dict[str, float]]]]:
        """The segmentation network is judged in every phase, the registration network where it learns."""
        yield "segmentation", self.validation.segmentation
        if self.phase == "joint":
            yield "registration", self.validation.registration
