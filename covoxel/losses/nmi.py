"""Normalised mutual information of a Parzen-window joint histogram."""

import torch
from torch import Tensor

from covoxel.losses.base import SIMILARITIES, MovedLoss

_BINS = 32


@SIMILARITIES.register("nmi")
def nmi(fixed: Tensor, mask: Tensor, *, radius: int = 0) -> MovedLoss:
    r"""Two minus normalised mutual information, :math:`2 - (H(f) + H(m)) / H(f, m)`.

    The joint histogram has 32 bins a side over intensities 0 to 1 and linear windows; it is one product of
    two `(bins, voxels)` matrices a pair.

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`, intensities of about 0 to 1; values outside count as 0 or 1.
    mask
        `(batch, 1, *shape)`.
    radius
        Not used; a global measure has no window.

    Returns
    -------
    MovedLoss
        Between 0 (one intensity determines the other) and 1 (independent).

    References
    ----------
    Studholme et al., An overlap invariant entropy measure of 3D medical image alignment, Pattern Recognition 1999.
    """
    weights = mask.flatten(1)
    fixed_windows = _windows(fixed.expand_as(mask)) * weights[:, None]
    total = weights.sum(1).clamp(min=1)

    def loss(moved: Tensor) -> Tensor:
        joint = fixed_windows @ _windows(moved).transpose(1, 2) / total[:, None, None]
        entropies = _entropy(joint.sum(1)) + _entropy(joint.sum(2))
        return 2 - entropies / _entropy(joint.flatten(1)).clamp(min=1e-6)

    return loss


def _windows(x: Tensor) -> Tensor:
    """Weight of every voxel in every bin, `(batch, bin, voxel)`; the weights of a voxel sum to one."""
    position = x.flatten(1).clamp(0, 1) * (_BINS - 1)
    centres = torch.arange(_BINS, dtype=x.dtype, device=x.device).view(1, -1, 1)
    return (1 - (position[:, None] - centres).abs()).clamp(min=0)


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(1)
