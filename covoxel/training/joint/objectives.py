"""Objectives of a joint training: those of its recipe, for each network, and who is whose frozen partner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from covoxel.training.joint.alignment import DiscriminatorObjective
from covoxel.training.joint.complementary import ComplementaryRegistration, ComplementarySegmentation
from covoxel.training.joint.objective import RegistrationObjective, SegmentationObjective
from covoxel.training.registration.machine import Optimisation
from covoxel.training.registration.objective import Score

if TYPE_CHECKING:
    from covoxel.training.joint.loop import JointCall


@dataclass(frozen=True, eq=False)
class Objectives:
    """One of each network."""

    registration: RegistrationObjective
    segmentation: SegmentationObjective
    discriminator: DiscriminatorObjective | None = None

    def trained(self, call: JointCall) -> Iterator[tuple[str, nn.Module, Score, Optimisation]]:
        """Name, network, objective, and batch and optimiser of each network."""
        recipe = call.recipe
        yield "registration", call.registration, self.registration, recipe.registration
        yield "segmentation", call.segmentation, self.segmentation, recipe.segmentation
        if self.discriminator is not None:
            assert call.discriminator is not None
            assert recipe.complementary is not None
            yield "discriminator", call.discriminator, self.discriminator, recipe.complementary.discriminator

    def introduce(self, networks: Mapping[str, nn.Module]) -> None:
        """Tell each objective the networks that it asks, by name."""
        self.registration.segmenter = networks["segmentation"]
        self.segmentation.registrar = networks["registration"]
        if self.discriminator is not None:
            self.discriminator.registrar = networks["registration"]
            for objective in (self.registration, self.segmentation):
                if isinstance(objective, ComplementaryRegistration | ComplementarySegmentation):
                    objective.discriminator = networks["discriminator"]


def objectives_of(call: JointCall) -> Objectives:
    """Objectives of the recipe.

    Raises
    ------
    ValueError
        If a loss is not registered, or a discriminator is given without need or missing where one is needed.
    """
    recipe, spacing_mm = call.recipe, call.spacing_mm
    if recipe.has_discriminator != (call.discriminator is not None):
        rule = (
            "needs one for its weight of confidence or adversarial loss"
            if recipe.has_discriminator
            else "has no use for one"
        )
        got = "none" if call.discriminator is None else f"a {type(call.discriminator).__name__}"
        raise ValueError(f"discriminator: recipe {recipe.name} {rule}, got {got}")
    if recipe.complementary is None:
        return Objectives(RegistrationObjective(recipe, spacing_mm), SegmentationObjective(recipe))
    return Objectives(
        ComplementaryRegistration(recipe, spacing_mm),
        ComplementarySegmentation(recipe),
        DiscriminatorObjective(recipe) if recipe.has_discriminator else None,
    )
