"""Head whose velocity changes with time: more motions than a stationary one, and still a cheap inverse."""

import torch
from torch import Tensor

from covoxel.spatial import warp
from nets.registration.heads import HEADS, Head, Motion


@HEADS.register("time-varying")
class TimeVaryingHead(Head):
    """The channels are `steps` velocities, followed one after the other by Euler steps of `1 / steps`.

    `φ_0 = id, φ_(t+1) = φ_t + v_t∘φ_t / steps`; the inverse undoes the steps in reverse order, each by
    `y - v_t(y) / steps` and `corrections` fixed-point iterations of it. Costs `steps` warps of n channels where
    a stationary head costs one a squaring, and `(1 + corrections) steps` for the inverse.

    The paper's velocities contain the step, ours are per unit time as a stationary velocity is, so that strengths
    of regularisers mean the same. It inverts by `id - Σ v_t∘φ_t` without corrections.

    Parameters
    ----------
    steps
        Velocities; 8 in the paper.
    corrections
        Fixed-point iterations for each step of the inverse.

    References
    ----------
    Chen, Frey and Du, Unsupervised learning of diffeomorphic image registration via TransMorph, WBIR 2022.
    """

    def __init__(self, ndim: int, channels: int, *, steps: int = 8, corrections: int = 1) -> None:
        if steps < 1 or corrections < 0:
            raise ValueError(f"steps must be at least 1 and corrections at least 0, got {steps} and {corrections}")
        super().__init__(ndim, channels, fields=steps)
        self.corrections = corrections

    def motion(self, predicted: Tensor, inverse: bool) -> Motion:
        """Flow of the velocities after unit time."""
        steps = (predicted / self.fields).unbind(1)
        displacement = steps[0]
        for step in steps[1:]:
            displacement = displacement + warp(step, displacement)
        return Motion(displacement, predicted, self._backwards(steps) if inverse else None)

    def _backwards(self, steps: tuple[Tensor, ...]) -> Tensor:
        displacement = torch.zeros_like(steps[0])
        for step in reversed(steps):
            origin = displacement
            for _ in range(1 + self.corrections):
                origin = displacement - warp(step, origin)
            displacement = origin
        return displacement
