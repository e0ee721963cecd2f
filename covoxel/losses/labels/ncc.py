"""Correlation of probabilities with labels: what one network that registers and segments was printed with."""

import torch
from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES
from covoxel.losses.labels.checks import checked

_FLAT = 1e-7
"""Variance of a label's probabilities below which they are the same everywhere."""
_FLOOR = 1e-10
"""Added to the product of both variances."""


@LABEL_LOSSES.register("ncc")
def ncc(probabilities: Tensor, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""One minus the correlation coefficient of each label's probabilities with its truth, mean over labels.

    .. math:: \frac{1}{K} \sum_k 1 - \frac{\operatorname{cov}(p_k, g_k)}
              {\sqrt{\operatorname{var} p_k \, \operatorname{var} g_k}}

    Label 0, background, does not count. A factor and an offset of the probabilities cost nothing. Of small structures
    it is nearly the geometric mean of precision and recall, where Dice is their harmonic mean: it is here to be
    compared with `soft_dice`.

    Parameters
    ----------
    probabilities, truth, mask
        As for `covoxel.losses.base.LabelLoss`.

    Returns
    -------
    Tensor
        `(batch,)` in 0 to 2. A label that is the same everywhere in both is left out; 0 where none is left. One that
        is the same everywhere in one of them costs 1.

    References
    ----------
    Beljaards et al., A cross-stitch architecture for joint registration and segmentation in adaptive radiotherapy,
    MIDL 2020 (of warped and fixed label maps).
    """
    probabilities, truth, inside = checked(probabilities, truth, mask)
    axes = tuple(range(2, truth.ndim))
    total = inside.sum(axes, keepdim=True).clamp(min=1e-12)

    def mean(x: Tensor) -> Tensor:
        return (x * inside).sum(axes, keepdim=True) / total

    ours, theirs = (x - mean(x) for x in (probabilities[:, 1:], truth[:, 1:]))
    ours_alone, theirs_alone = mean(ours**2), mean(theirs**2)
    correlation = mean(ours * theirs) / (ours_alone * theirs_alone + _FLOOR).sqrt()
    varies = ((ours_alone + theirs_alone) > _FLAT).flatten(1)
    missed = torch.where(varies, 1 - correlation.flatten(1), 0.0)
    return missed.sum(1) / varies.sum(1).clamp(min=1)
