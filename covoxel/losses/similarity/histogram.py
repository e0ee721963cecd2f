"""Joint histogram of two images with linear Parzen windows, and its entropies."""

import torch
from torch import Tensor

BINS = 32


class JointHistogram:
    """Shares of masked voxels by pair of intensities, `(batch, bin, bin)`: fixed along rows.

    Intensities 0 to 1 are cut into `BINS` bins with linear windows; values outside count as 0 or 1. One product of two
    `(bin, voxel)` matrices a pair.

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`.
    mask
        `(batch, 1, *shape)`.

    References
    ----------
    Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 2003.
    """

    def __init__(self, fixed: Tensor, mask: Tensor) -> None:
        weights = mask.flatten(1)
        self._windows = _windows(fixed.expand_as(mask)) * weights[:, None]
        self._total = weights.sum(1).clamp(min=1)[:, None, None]

    def __call__(self, moved: Tensor) -> Tensor:
        """Histogram with a moved image, `(batch, 1, *shape)`; differentiable."""
        return self._windows @ _windows(moved).transpose(1, 2) / self._total


def _windows(x: Tensor) -> Tensor:
    """Weight of every voxel in every bin, `(batch, bin, voxel)`; the weights of a voxel sum to one."""
    position = x.flatten(1).clamp(0, 1) * (BINS - 1)
    centres = torch.arange(BINS, dtype=x.dtype, device=x.device).view(1, -1, 1)
    return (1 - (position[:, None] - centres).abs()).clamp(min=0)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over all but the first axis, `(batch,)`."""
    p = probabilities.flatten(1)
    return -(p * p.clamp(min=1e-12).log()).sum(1)
