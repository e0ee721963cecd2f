"""Schedule: when the learning rate rises and falls, and which stage of a cascade is trained at a step."""

import math
from dataclasses import dataclass
from typing import Protocol

from covoxel.training.registration.recipe import Recipe


class Rated(Protocol):
    """What is read of a recipe."""

    @property
    def learning_rate(self) -> float:
        """At its highest."""
        ...

    @property
    def warm_up(self) -> int:
        """Steps until it is there."""
        ...

    @property
    def decay(self) -> str:
        """How it goes from there: "cosine" or "constant"."""
        ...


def rate_at(place: int, length: int, how: Rated) -> float:
    """Learning rate of step `place`, from 0, of `length`."""
    if place < how.warm_up:
        return how.learning_rate * (place + 1) / how.warm_up
    if how.decay == "constant":
        return how.learning_rate
    warm_up = min(how.warm_up, length - 1)
    return how.learning_rate * (1 + math.cos(math.pi * (place - warm_up) / (length - warm_up))) / 2


@dataclass(frozen=True)
class Schedule:
    """Steps of a training, shared equally by the stages that are trained one after the other.

    Parameters
    ----------
    recipe
        Steps, rate, warm-up and decay; these begin anew with every stage.
    stages
        1 for a network that is trained as a whole.
    """

    recipe: Recipe
    stages: int = 1

    def end(self, stage: int) -> int:
        """Steps that are done when stage `stage` (from 0) ends."""
        return self.recipe.steps * (stage + 1) // self.stages

    def rate(self, step: int, stage: int) -> float:
        """Learning rate of step `step`, from 0 over all stages."""
        first = self.end(stage - 1)
        return rate_at(step - first, self.end(stage) - first, self.recipe)
