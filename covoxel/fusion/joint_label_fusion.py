"""Joint label fusion: atlases that err together share one vote."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.base import FUSION_RULES, Evidence
from covoxel.fusion.likeness import Pairs, weights_of
from covoxel.fusion.search import Look, Sight, offsets_within, vote_nearby
from covoxel.fusion.simplex import least_cost_weights
from covoxel.fusion.source import place_of
from covoxel.losses.box import box_sum

_WORK = 2**22  # float64 numbers of one quantity that are in memory at once
_BLIND = 1e12
_LARGE = 10**6  # voxels of an image


@FUSION_RULES.register("joint_label_fusion")
def joint_label_fusion(
    evidence: Evidence,
    *,
    radius: int = 2,
    search: int = 1,
    alpha: float = 0.05,
    beta: float = 2.0,
    power: float = 1.0,
    likeness: float = 1.0,
    normalisation_radius: int | None = 6,
    spread: int = 2,
    stride: int | None = None,
    appearance: float = 1.0,
) -> Tensor:
    """Votes weighted so that the expected error of their sum is least, errors shared by atlases counted as shared.

    Two atlases are likely to err together where both differ from the image: `M_ij = <|d_i| |d_j|>^beta`, d the
    difference between the windows of atlas and image, the mean over the window. The weights make `w' (M + alpha I) w`
    least among those that are not negative and sum to one.

    Each atlas votes with its voxels up to `search` away, shared out by `exp(-power (e - e_min) / e_min)`, e the mean
    squared difference of the window there; its d is that of the window with e_min. Where all atlases agree on all
    labels nothing is left to weigh. Windows hold only voxels inside the atlas' field of view.

    Parameters
    ----------
    evidence
        The warped atlases.
    radius
        Half side of the window in voxels; 2 is a window of 5 voxels.
    search
        Reach of the search in voxels; 0 looks at the same place alone. The work grows with `(2 search + 1)^n`.
    alpha
        Added to the diagonal of M: the larger, the more even the weights. Positive.
    beta
        Exponent of the shared error.
    power
        How fast the share of a voxel nearby falls with likeness.
    likeness
        Each weight is multiplied by `exp(-likeness (e - e_min) / e_min)`, e the mean squared difference of the best
        window of an atlas and e_min the least of all: alpha makes weights even where errors are small, this tells
        small errors apart. 0: the weights as they are.
    normalisation_radius
        Half side of the window whose mean and standard deviation normalise each intensity; None for those of the
        whole image.
    spread
        The weights found at a voxel hold for all undecided voxels of the window of this half side around it; where
        windows overlap they are added up. 0: for the voxel alone.
    stride
        Weights are found on every so many-th voxel along each axis, and a voxel with none of them in its window has
        its own; at most the side of the window of `spread`. The work on weights falls with `stride^n`. None: 1, and 2
        for an image of more than a million voxels, where the flipped image no longer has exactly the flipped result.
    appearance
        Factor of the score of `covoxel.fusion.appearance`; 0 leaves it out.

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities. Unchanged (to rounding) by increasing affine changes of any image's
        intensities. No quantity in memory has more than 2^25 float32 or 2^22 float64 numbers beside the evidence and a
        copy of its intensities around the undecided voxels.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    References
    ----------
    Wang et al., Multi-atlas segmentation with joint label fusion, IEEE PAMI 2013.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if stride is not None and stride < 1:
        raise ValueError(f"stride must be 1 or more, got {stride}")
    for name, value in (("beta", beta), ("power", power), ("likeness", likeness), ("spread", spread)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    look = Look("ssd", radius, normalisation_radius, search)
    step = min(stride or (2 if prod(place_of(evidence).source.shape) > _LARGE else 1), 2 * spread + 1)
    around = offsets_within(radius, evidence.fixed.ndim).to(evidence.fixed.device)

    def weigh(sight: Sight) -> Tensor:
        shares = torch.stack([weights_of(own, "ssd", power) for own in sight.distance.unbind(1)], 1)
        shares /= shares.sum(0).clamp_(min=torch.finfo(shares.dtype).tiny)
        on_lattice = ((sight.voxels + sight.origin) % step == 0).all(1)
        weights = _spread(weigh_atlases(sight.of(on_lattice)), sight, on_lattice, spread)
        alone = _spread(weights.new_ones((1, int(on_lattice.sum()))), sight, on_lattice, spread)[0] < 0.5
        weights[:, alone] = weigh_atlases(sight.of(alone))
        return shares.mul_(weights)

    def weigh_atlases(sight: Sight) -> Tensor:
        return _joint_weights(sight, around, alpha, beta) * weights_of(sight.distance.amin(0), "ssd", likeness)

    return vote_nearby(evidence, look, weigh, appearance, halo=spread)


def _spread(weights: Tensor, sight: Sight, known: Tensor, radius: int) -> Tensor:
    """Sum, `(atlas, m)`, of the weights of the `known` undecided voxels in the window around each undecided one."""
    at: Any = (slice(None), 0, *sight.voxels.unbind(1))
    there: Any = (slice(None), 0, *sight.voxels[known].unbind(1))
    dense = weights.new_zeros((len(weights), 1, *sight.pairs.fixed.shape[2:]))
    dense[there] = weights
    return box_sum(dense, radius)[at]


def _joint_weights(sight: Sight, around: Tensor, alpha: float, beta: float) -> Tensor:
    """Weights, `(atlas, m)`, of the atlases, each at its best offset."""
    atlases, count = sight.distance.shape[1:]
    best, offset = sight.distance.min(0)
    seen = best.isfinite().T
    weights = torch.empty((count, atlases), dtype=best.dtype, device=best.device)
    step = max(1, _WORK // (atlases * max(atlases, len(around))))
    for start in range(0, count, step):
        part = slice(start, start + step)
        shared = _shared_errors(sight.pairs, sight.voxels[part], sight.offsets[offset[:, part]], around).pow_(beta)
        shared.diagonal(dim1=1, dim2=2).add_(alpha)
        # One that does not see shares no error and is as bad as can be: it is left out of the sum.
        blind = ~seen[part]
        shared.masked_fill_(blind[:, :, None] | blind[:, None, :], 0.0)
        shared.diagonal(dim1=1, dim2=2).masked_fill_(blind, _BLIND)
        weights[part] = least_cost_weights(shared).masked_fill_(blind, 0.0).to(weights.dtype)
    return weights.T


def _shared_errors(pairs: Pairs, voxels: Tensor, offset: Tensor, around: Tensor) -> Tensor:
    """Mean products, `(m, atlas, atlas)` float64, of the absolute differences of windows `around` from the image's.

    Windows are around `voxels` `(m, n)`, those of the atlases `offset` `(atlas, m, n)` away. Each difference is over
    the root of the number of voxels inside, so that the matrix is positive semidefinite whatever the atlases see.
    """
    sides = pairs.fixed.shape[2:]
    steps = voxels.new_tensor([sides[axis + 1 :].numel() for axis in range(len(sides))])
    here = (voxels * steps).sum(1, keepdim=True) + (around * steps).sum(1)
    errors = []
    for fixed, moved, inside, way in zip(pairs.fixed, pairs.moved, pairs.inside, offset, strict=True):
        there = here + (way * steps).sum(1, keepdim=True)
        within = inside.flatten()[there]
        error = (moved.flatten()[there] - fixed.flatten()[here]).abs_().mul_(within)
        errors.append(error.div_(within.sum(1, keepdim=True).clamp_(min=1).sqrt_()))
    both = torch.stack(errors, 1).double()
    return both @ both.transpose(1, 2)
