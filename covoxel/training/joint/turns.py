"""Turns: whose step it is, and which of its steps."""

from dataclasses import dataclass

from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.sampling import Chosen, due


@dataclass(frozen=True)
class Turn:
    """One step: which network learns, which of its steps of the phase it is, and of how many."""

    name: str
    update: int
    length: int
    chosen: tuple[Chosen, ...] = ()


def turn_at(done: int, length: int, phase: str, recipe: JointRecipe) -> Turn:
    """The step after `done` of `length` of a phase; steps of each network are evenly spread over the joint one."""
    of_discriminator = 0.0
    if recipe.complementary is not None and recipe.has_discriminator:
        of_discriminator = recipe.complementary.discriminator.ratio
    share = 1 / (1 + recipe.ratio * (1 + of_discriminator)) if phase == "joint" else 1.0
    before, in_all = due(0, done, share), due(0, length, share)
    if due(done, 1, share):
        return Turn("segmentation", before, in_all)
    done, length, share = done - before, length - in_all, of_discriminator / (1 + of_discriminator)
    before, in_all = due(0, done, share), due(0, length, share)
    if due(done, 1, share):
        return Turn("discriminator", before, in_all)
    return Turn("registration", done - before, length - in_all)
