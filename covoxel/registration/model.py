"""PairModel: what the engines need of a trained network, whatever trained it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Alignment = Literal["none", "centre", "affine"]


@dataclass(frozen=True, eq=False)
class PairModel:
    """A network that registers pairs of images on one grid.

    Parameters
    ----------
    displacement
        `f(fixed, moving)`, both `(batch, 1, *shape)` with intensities of about 0 to 1, to `displacement_vox`
        `(batch, n, *shape)` from fixed to moving. Works on the device of its arguments, so that the CPU can take over
        from a GPU that is too small.
    spacing_mm
        Voxel size that it was trained on, one for all axes or one along each of R, A, S; None: any.
    alignment
        How images were laid on one another before: "none" (the headers hold), "centre" (middles of the fields of view)
        or "affine".
    smallest_side
        Smallest side, voxels, of an image it takes; a smaller one is refused with a sentence.
    bytes_per_voxel
        Working memory for a voxel of a pair, about; bounds how many pairs are taken at once.
    """

    displacement: Callable[[Tensor, Tensor], Tensor]
    spacing_mm: float | tuple[float, ...] | None = None
    alignment: Alignment = "centre"
    smallest_side: int = 1
    bytes_per_voxel: int = 1000
