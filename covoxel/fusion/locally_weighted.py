"""Locally weighted vote: an atlas counts where it looks like the image."""

from typing import Any, Literal

import torch
from torch import Tensor

from covoxel.fusion.agreement import bounding_window, disagreement
from covoxel.fusion.base import FUSION_RULES, Evidence, weighted_vote
from covoxel.fusion.windows import chunks, correlation, locally_normalised, standardised, window_mean

Kernel = Literal["ssd", "lncc"]


@FUSION_RULES.register("locally_weighted")
def locally_weighted(
    evidence: Evidence,
    *,
    kernel: Kernel = "lncc",
    radius: int = 2,
    power: float = 8.0,
    normalisation_radius: int | None = None,
) -> Tensor:
    """Votes weighted at each voxel by the likeness of the atlas and the image in a window around it.

    `lncc`: `w = max(c, 0)^power`, c the correlation coefficient of the two windows.
    `ssd`: `w = exp(-power (d - d_min) / d_min)`, d the mean squared difference of the two windows after normalisation
    and d_min that of the atlas most alike at this voxel: the bandwidth tunes itself.

    Windows hold only voxels inside the atlas' field of view. Weights are computed in the box around the voxels at
    which atlases disagree; elsewhere they could change nothing.

    Parameters
    ----------
    evidence
        The warped atlases.
    kernel
        "lncc" or "ssd".
    radius
        Half side of the window in voxels; 2 is a window of 5 voxels.
    power
        How fast the weight falls with likeness; 0 is majority vote.
    normalisation_radius
        For "ssd": half side of the window whose mean and standard deviation normalise each intensity; by default
        those of the whole image.

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities. Unchanged by increasing affine changes of any image's intensities.

    References
    ----------
    Artaechevarria et al., Combination strategies in multi-atlas image segmentation, IEEE TMI 2009;
    Coupé et al., Patch-based segmentation using expert priors, NeuroImage 2011.
    """
    if kernel not in ("ssd", "lncc"):
        raise ValueError(f"kernel must be 'ssd' or 'lncc', got {kernel!r}")
    if radius < 0 or power < 0:
        raise ValueError(f"radius and power must not be negative, got {radius} and {power}")
    weights = evidence.valid.to(evidence.labels.dtype)
    reach = radius + (normalisation_radius or 0)
    window = bounding_window(disagreement(evidence), margin=reach)
    if window is not None:
        at: Any = (..., *window)
        part = standardised(evidence).cropped(window)
        if kernel == "lncc":
            weights[at] *= _lncc_weights(part, radius, power)
        else:
            weights[at] *= _ssd_weights(part, radius, power, normalisation_radius)
    return weighted_vote(evidence, weights)


def _lncc_weights(evidence: Evidence, radius: int, power: float) -> Tensor:
    """Weights, `(atlas, *shape)`, from the correlation of windows; all alike where none correlates."""
    weights = torch.empty_like(evidence.moved)
    for part in chunks(evidence):
        moved = evidence.moved[part][:, None]
        inside = evidence.valid[part][:, None].to(moved.dtype)
        weights[part] = correlation(evidence.fixed[None, None], moved, inside, radius)[:, 0].clamp_(0, 1)
    weights *= evidence.valid
    best = weights.amax(0).clamp_(min=torch.finfo(weights.dtype).tiny)
    return weights.div_(best).pow_(power).add_(1e-6)


def _ssd_weights(evidence: Evidence, radius: int, power: float, normalisation_radius: int | None) -> Tensor:
    """Weights, `(atlas, *shape)`, from the squared difference of windows, over that of the best atlas."""
    distance = torch.empty_like(evidence.moved)
    for part in chunks(evidence):
        moved = evidence.moved[part][:, None]
        inside = evidence.valid[part][:, None].to(moved.dtype)
        fixed = evidence.fixed[None, None].expand_as(moved)
        if normalisation_radius is not None:
            moved = locally_normalised(moved, inside, normalisation_radius)
            fixed = locally_normalised(fixed, inside, normalisation_radius)
        distance[part] = window_mean((moved - fixed).square_(), inside, radius)[:, 0].clamp_(min=0)
    best = distance.masked_fill(~evidence.valid, torch.inf).amin(0)
    best = torch.where(best.isfinite(), best, 0.0).add_(1e-4)
    return distance.sub_(best).div_(best).mul_(-power).exp_()
