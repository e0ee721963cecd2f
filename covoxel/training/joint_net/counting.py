"""How far voxels count: less inside of lesions, and not where there is no counterpart, which has its price."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.training.registration.terms import Weighted


def calm_of(fixed: Tensor, lesions: Sequence[int], relax: float) -> Tensor | None:
    """How far similarity and regularisers count, `(batch, 1, *shape)` of 0 to 1; None: fully.

    Parameters
    ----------
    fixed
        `(batch, label, *shape)` probabilities of the fixed image; nothing is learnt of them.
    lesions
        Labels inside of which both are relaxed.
    relax
        By how much, 0 to 1.
    """
    if not relax:
        return None
    return 1 - relax * fixed.detach()[:, list(lesions)].sum(1, keepdim=True)


def present(foreign: Tensor | None, calm: Tensor | None) -> Tensor | None:
    """How far similarity counts: `calm`, and the probability of a counterpart, through which that is learnt."""
    if foreign is None:
        return calm
    return 1 - foreign if calm is None else (1 - foreign) * calm


def price(foreign: Tensor, volume: float, perimeter: float) -> Tensor:
    """Price, `(batch,)`, of probabilities `(batch, 1, *shape)` of having no counterpart.

    Parameters
    ----------
    foreign
        Probabilities.
    volume
        Of a voxel.
    perimeter
        Of a face between a voxel that has none and one that has; of probabilities, of their difference.

    Returns
    -------
    Tensor
        For each voxel of the image, so that it is to a mean over voxels what the sum is to a sum.

    References
    ----------
    Andresen et al., Deep learning-based simultaneous registration and unsupervised non-correspondence segmentation of
    medical images with pathologies, IJCARS 2022.
    """
    faces = [foreign.diff(dim=axis).abs().flatten(1).sum(1) for axis in range(2, foreign.ndim)]
    voxels = foreign[0].numel()
    return volume * foreign.flatten(1).mean(1) + perimeter * torch.stack(faces).sum(0) / voxels


def tells_voxels(similarity: Weighted) -> bool:
    """Whether a similarity says of each voxel what it costs: whether its gradient with respect to the mask is right.

    Some, as "lncc", take the mask as given. What has no counterpart would then be learnt, but not where.
    """
    fixed, moved, where = torch.rand((3, 1, 1, 9, 9), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(mask: Tensor) -> Tensor:
        value: Tensor = similarity(fixed, mask)(moved).sum()
        return value * mask.mean()

    mask = torch.full_like(where, 0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(mask), mask)
    step = 1e-4 * (where - 0.5)
    with torch.no_grad():
        slope = float(loss(mask + step) - loss(mask - step)) / 2
    return math.isclose(float((gradient * step).sum()), slope, rel_tol=1e-2)
