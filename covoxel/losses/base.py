"""What a similarity measure is: prepared with the fixed image once, then called with moved images."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from covoxel.registry import Registry

MovedLoss = Callable[[Tensor], Tensor]
"""Loss of moved images, `(batch, 1, *shape)` to `(batch,)`; smaller is more similar; differentiable."""


class Similarity(Protocol):
    """Prepares a loss for a fixed image, so that what depends on it alone is computed once.

    Parameters
    ----------
    fixed
        `(batch, 1, *shape)` or `(1, 1, *shape)`, intensities of about 0 to 1.
    mask
        `(batch, 1, *shape)` weights 0 to 1, zero where the moving image has no data.
    """

    def __call__(self, fixed: Tensor, mask: Tensor, *, radius: int) -> MovedLoss:
        """Return the loss of moved images against `fixed` inside `mask`."""


SIMILARITIES: Registry[Similarity] = Registry("similarity", "covoxel.losses")


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` weighted by `mask` over all but the batch axis, `(batch,)`."""
    axes = tuple(range(1, x.ndim))
    return (x * mask).sum(axes) / mask.sum(axes).clamp(min=1)
