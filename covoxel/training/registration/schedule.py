"""Schedule: when the learning rate rises and falls, and which stage of a cascade is trained at a step."""

import math
from dataclasses import dataclass

from covoxel.training.registration.recipe import Recipe


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
        length, place = self.end(stage) - first, step - first
        if place < self.recipe.warm_up:
            return self.recipe.learning_rate * (place + 1) / self.recipe.warm_up
        if self.recipe.decay == "constant":
            return self.recipe.learning_rate
        warm_up = min(self.recipe.warm_up, length - 1)
        return self.recipe.learning_rate * (1 + math.cos(math.pi * (place - warm_up) / (length - warm_up))) / 2
