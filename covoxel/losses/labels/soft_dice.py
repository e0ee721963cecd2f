"""Soft Dice: overlap of probabilities with labels."""

from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES
from covoxel.losses.labels.checks import checked


def soft_dice(
    probabilities: Tensor, truth: Tensor, *, mask: Tensor | None = None, background: bool = False, squared: bool = False
) -> Tensor:
    r"""One minus the Dice overlap, mean over labels.

    .. math:: \frac{1}{K} \sum_k 1 - \frac{2 \sum_x p_k g_k}{\sum_x p_k + \sum_x g_k}

    Parameters
    ----------
    probabilities, truth, mask
        As for `covoxel.losses.base.LabelLoss`.
    background
        Whether label 0 counts. By default it does not, as in `covoxel.metrics.dice`.
    squared
        Divide by sums of squares instead, which is 0 for any equal probabilities and not for one-hot ones only.

    Returns
    -------
    Tensor
        `(batch,)` in 0 to 1. A label without a trace in either is left out; 0 where none is left.

    References
    ----------
    Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image registration, IEEE TMI 2019;
    squared: Milletari et al., V-Net, 3DV 2016.
    """
    probabilities, truth, inside = checked(probabilities, truth, mask)
    if not background:
        probabilities, truth = probabilities[:, 1:], truth[:, 1:]
    power = 2 if squared else 1
    axes = tuple(range(2, truth.ndim))
    both = (probabilities * truth * inside).sum(axes)
    whole = ((probabilities**power + truth**power) * inside).sum(axes)
    present = (whole > 0).to(whole.dtype)
    missed = (1 - 2 * both / whole.clamp(min=1e-12)) * present
    return missed.sum(1) / present.sum(1).clamp(min=1)


LABEL_LOSSES.register("soft_dice")(soft_dice)
