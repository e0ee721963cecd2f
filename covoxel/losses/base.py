"""What each kind of loss is, and where it is found by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    radius
        Half-width of windows, voxels; ignored by a measure that has none.
    """

    def __call__(self, fixed: Tensor, mask: Tensor, *, radius: int) -> MovedLoss:
        """Return the loss of moved images against `fixed` inside `mask`."""


class Regulariser(Protocol):
    """Penalty of a displacement or velocity.

    Parameters
    ----------
    field_vox
        `(batch, n, *shape)`, voxels; a displacement, or a velocity for one unit of time.
    mask
        `(batch or 1, 1, *shape)` weights 0 to 1; a difference counts if all voxels it is taken from do. All by default.
    spacing_mm
        Spacing along each axis. Given, lengths are millimetres and anisotropic voxels are paid by their shape; by
        default every voxel is a cube with sides of 1 and lengths are voxels.
    """

    def __call__(
        self, field_vox: Tensor, *, mask: Tensor | None = None, spacing_mm: Sequence[float] | None = None
    ) -> Tensor:
        """Return the penalty, `(batch,)`; 0 for the identity."""


class AffineRegulariser(Protocol):
    """Penalty of matrices `moving_from_fixed`, `(batch, n or n + 1, n + 1)`, homogeneous, RAS+ mm.

    In millimetres, since a turn in voxels that are no cubes is no rotation. The last row, if there is one, is not read.
    """

    def __call__(self, moving_from_fixed: Tensor) -> Tensor:
        """Return the penalty, `(batch,)`; 0 for the identity."""


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """Two images on one grid, and the displacements there and back.

    Parameters
    ----------
    forward_vox
        `(batch, n, *shape)`, from fixed to moving points, voxels: `warp(moving, forward_vox)` lies on `fixed`.
    backward_vox
        The same from moving to fixed points: `warp(fixed, backward_vox)` lies on `moving`.
    fixed, moving
        `(batch, 1, *shape)`, intensities of about 0 to 1; for losses that compare images.
    fixed_to_itself_vox, moving_to_itself_vox
        What the network makes of an image and itself; for the identity loss.
    second_forward_vox, second_backward_vox
        What the network makes of the images it has just moved, `(moving moved, fixed moved)` in the roles of `moving`
        and `fixed` exchanged; for the cycle loss. By default the first ones are used again.
    fixed_mask, moving_mask
        `(batch or 1, 1, *shape)` weights 0 to 1 of the voxels of either image; all by default.
    spacing_mm
        As for `Regulariser`.
    """

    forward_vox: Tensor
    backward_vox: Tensor
    fixed: Tensor | None = None
    moving: Tensor | None = None
    fixed_to_itself_vox: Tensor | None = None
    moving_to_itself_vox: Tensor | None = None
    second_forward_vox: Tensor | None = None
    second_backward_vox: Tensor | None = None
    fixed_mask: Tensor | None = None
    moving_mask: Tensor | None = None
    spacing_mm: Sequence[float] | None = None

    def need(self, name: str) -> Tensor:
        """Return the part of that name, or raise ValueError if it was not given."""
        part: Tensor | None = getattr(self, name)
        if part is None:
            raise ValueError(f"{name} must be given for this loss, got None")
        return part


Consistency = Callable[[RoundTrip], Tensor]
"""Loss of a round trip, `(batch,)`."""


class LabelLoss(Protocol):
    """Disagreement of probabilities with the truth.

    Parameters
    ----------
    probabilities
        `(batch, label, *shape)` in 0 to 1; label 0 is background. Warped one-hot labels, or a softmax.
    truth
        As `probabilities`: one-hot labels, or probabilities themselves.
    mask
        `(batch or 1, 1, *shape)` weights from 0: a field of view, or how far the truth is trusted. All by default.
    """

    def __call__(self, probabilities: Tensor, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the loss, `(batch,)`."""


SIMILARITIES: Registry[Similarity] = Registry("similarity", "covoxel.losses.similarity")
REGULARISERS: Registry[Regulariser] = Registry("regulariser", "covoxel.losses.regularisation")
AFFINE_REGULARISERS: Registry[AffineRegulariser] = Registry("affine regulariser", "covoxel.losses.regularisation")
CONSISTENCY: Registry[Consistency] = Registry("consistency loss", "covoxel.losses.consistency")
LABEL_LOSSES: Registry[LabelLoss] = Registry("label loss", "covoxel.losses.labels")


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` weighted by `mask` over all but the batch axis, `(batch,)`."""
    axes = tuple(range(1, x.ndim))
    return (x * mask).sum(axes) / mask.sum(axes).clamp(min=1)
