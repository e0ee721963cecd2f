"""What a joint network is: a pair and what is known of the moving labels in, a displacement and logits out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from covoxel.registry import Registry
from nets.registration.base import Registered


@dataclass(frozen=True, eq=False)
class Joint:
    """What a network says of a pair; float32 whatever the precision of the network.

    Parameters
    ----------
    registered
        The transform from fixed to moving.
    fixed_logits
        `(batch, label, *shape)` of the fixed image, on its grid.
    moving_logits
        `(batch, label, *shape)` of the moving image, on its own grid, where the architecture segments both.
    foreign
        `(batch, 1, *shape)` on the fixed grid: logits of having no counterpart in the moving image, where the
        architecture says so.
    foreign_levels
        The same on the cells of each of `registered.levels`, coarsest first; empty where there is no `foreign`.
    """

    registered: Registered
    fixed_logits: Tensor
    moving_logits: Tensor | None = None
    foreign: Tensor | None = None
    foreign_levels: tuple[Tensor, ...] = ()


class JointNet(nn.Module, ABC):
    """Checks a pair and the moving labels, and hands them to the architecture.

    Any size of image is taken, as by registration networks. Convolutions run in the precision of the weights or of the
    autocast around the call; fields, integration and sampling in float32. An untrained network says no displacement.

    Parameters
    ----------
    ndim
        2 or 3.
    labels
        Number of labels, background included.
    """

    def __init__(self, ndim: int, labels: int) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, got {ndim}")
        if labels < 2:
            raise ValueError(f"labels must be at least 2, background included, got {labels}")
        self.ndim, self.labels = ndim, labels

    def forward(
        self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None, *, inverse: bool = False
    ) -> Joint:
        """Register and segment each pair of a batch.

        Parameters
        ----------
        fixed, moving
            `(batch, 1, *shape)`, one grid, intensities of about 0 to 1.
        moving_labels
            `(batch, label, *shape)` probabilities on the moving image's grid, indicators if it is labelled. Zeros say
            that nothing is known of a voxel; None: of no voxel.
        inverse
            Also say the inverse displacement, where the head has a cheap one.

        Raises
        ------
        ValueError
            If the images differ in shape or are not `(batch, 1, *shape)` with `ndim` sides, or the labels do not fit.
        """
        if fixed.ndim != self.ndim + 2 or fixed.shape[1] != 1:
            raise ValueError(f"fixed must be (batch, 1, *shape) with {self.ndim} sides, got {tuple(fixed.shape)}")
        if moving.shape != fixed.shape:
            raise ValueError(f"moving must have the shape of fixed, {tuple(fixed.shape)}, got {tuple(moving.shape)}")
        wanted = (fixed.shape[0], self.labels, *fixed.shape[2:])
        if moving_labels is not None and tuple(moving_labels.shape) != wanted:
            raise ValueError(f"moving_labels must be {wanted} for such images, got {tuple(moving_labels.shape)}")
        dtype = next(self.parameters()).dtype
        known = None if moving_labels is None else moving_labels.to(dtype)
        return self.answer(fixed.to(dtype), moving.to(dtype), known, inverse)

    @abstractmethod
    def answer(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None, inverse: bool) -> Joint:
        """Register and segment what is checked and in the precision of the weights."""


JOINT_NETS: Registry[Callable[..., JointNet]] = Registry("joint network", "nets.joint")
"""Call one with `ndim`, `labels` and its settings: `JOINT_NETS["cross-stitch"](3, labels=4, linked=False)`."""
