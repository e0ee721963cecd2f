"""What a training tells while it runs, and how it says that it cannot go on."""

from collections.abc import Callable

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""


class TrainingDivergedError(ArithmeticError):
    """A loss or a gradient was not finite; the message names the case, the step and what is kept."""
