"""Locally weighted vote: an atlas counts where it looks like the image, at the place nearby where it looks so most."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.agreement import bounding_window, disagreement, slabs
from covoxel.fusion.appearance import appearance_likelihood
from covoxel.fusion.base import FUSION_RULES, Evidence, weighted_vote
from covoxel.fusion.likeness import Kernel, Pairs, comparable, weights_of, window_distance

_WORK = 2**25  # numbers of one quantity that are in memory at once


@FUSION_RULES.register("locally_weighted")
def locally_weighted(
    evidence: Evidence,
    *,
    kernel: Kernel = "ssd",
    radius: int = 2,
    power: float = 2.0,
    normalisation_radius: int | None = 6,
    search: int = 1,
    appearance: float = 0.5,
) -> Tensor:
    """Votes weighted by the likeness of the windows around the image's voxel and around the atlas' voxel.

    `ssd`: `w = exp(-power (d - d_min) / d_min)`, d the mean squared difference of the two windows after normalisation
    and d_min the least of all that vote at this voxel: the bandwidth tunes itself.
    `lncc`: `w = max(c, 0)^power`, c the correlation coefficient of the two windows.

    With `search` every atlas votes with each of its voxels up to so many away along every axis, each weighted by its
    own window; what registration left over within that reach is made good. With `appearance` the result is
    multiplied by the likelihood of the voxel's intensity under each label, to that power. Where all atlases agree
    on all labels nothing is left to weigh, and the label agreed on is kept. Windows hold only voxels inside the
    atlas' field of view.

    Parameters
    ----------
    evidence
        The warped atlases.
    kernel
        "ssd" or "lncc".
    radius
        Half side of the window in voxels; 2 is a window of 5 voxels.
    power
        How fast the weight falls with likeness; 0 gives every voter the same.
    normalisation_radius
        For "ssd": half side of the window whose mean and standard deviation normalise each intensity; None for
        those of the whole image.
    search
        Reach of the search in voxels; 0 looks at the same place alone. The work grows with `(2 search + 1)^n`.
    appearance
        Exponent of the likelihood of `covoxel.fusion.appearance`; 0 leaves it out.

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities. Unchanged (to rounding) by increasing affine changes of any image's
        intensities.

    References
    ----------
    Artaechevarria et al., Combination strategies in multi-atlas image segmentation, IEEE TMI 2009;
    Coupé et al., Patch-based segmentation using expert priors, NeuroImage 2011.
    """
    if kernel not in ("ssd", "lncc"):
        raise ValueError(f"kernel must be 'ssd' or 'lncc', got {kernel!r}")
    settings = (radius, normalisation_radius or 0, search, power, appearance)
    if min(settings) < 0:
        raise ValueError(
            f"radius, normalisation_radius, search, power and appearance must not be negative, got {settings}"
        )
    probabilities = weighted_vote(evidence, evidence.valid.to(evidence.labels.dtype))
    undecided = disagreement(evidence)
    margin = radius + search
    window = bounding_window(undecided, margin)
    if window is None:
        return probabilities
    at: Any = (..., *window)
    pairs = comparable(evidence, normalisation_radius if kernel == "ssd" else None, window)
    offsets = list(product(range(-search, search + 1), repeat=evidence.fixed.ndim))
    undecided, labels, result = undecided[at], evidence.labels[at], probabilities[at]
    atlases = len(evidence.moved)
    planes = max(16, _WORK // (atlases * undecided[0].numel()))
    # `result` is a view: what is written there is written into the probabilities.
    for core in slabs(undecided, voxels=_WORK // (atlases * len(offsets)), planes=planes):
        first = max(0, core.start - margin)
        voxels = undecided[core].nonzero()
        voxels[:, 0] += core.start - first
        distance = _distances(pairs.planes(first, core.stop + margin), voxels, offsets, kernel, radius)
        weights = weights_of(distance.flatten(0, 1), kernel, power).view_as(distance)
        voxels[:, 0] += first
        place: Any = (slice(None), *voxels.unbind(1))
        result[place] = _votes(labels, voxels, offsets, weights)
    if appearance > 0:
        result[:, undecided] = _with_appearance(result[:, undecided], evidence.cropped(window), undecided, appearance)
    return probabilities


def _with_appearance(votes: Tensor, evidence: Evidence, undecided: Tensor, exponent: float) -> Tensor:
    """Votes `(label, m)` at the undecided voxels times the likelihood of their intensities, again summing to one."""
    likelihood = appearance_likelihood(
        evidence.fixed[undecided],
        evidence.moved[:, undecided],
        evidence.labels[:, :, undecided],
        evidence.valid[:, undecided],
    )
    product = votes * likelihood.pow_(exponent)
    return product.div_(product.sum(0))


def _distances(pairs: Pairs, voxels: Tensor, offsets: list[tuple[int, ...]], kernel: Kernel, radius: int) -> Tensor:
    """Distances, `(offset, atlas, m)`, at `voxels` `(m, n)` of the image from those of the atlases at each offset."""
    at: Any = (slice(None), *voxels.unbind(1))
    distances = [window_distance(there, kernel, radius)[at] for there in pairs.shifted(offsets)]
    return torch.stack(distances)


def _votes(labels: Tensor, voxels: Tensor, offsets: list[tuple[int, ...]], weights: Tensor) -> Tensor:
    """Probabilities, `(label, m)`, at `voxels` `(m, n)` of `labels` `(atlas, label, *shape)` at each offset."""
    last = voxels.new_tensor(labels.shape[2:]) - 1
    votes = labels.new_zeros((labels.shape[1], len(voxels)))
    for offset, weight in zip(offsets, weights, strict=True):
        # Beyond the image no atlas is inside: the weight is zero and any voxel will do.
        at: Any = (slice(None), *(voxels + voxels.new_tensor(offset)).clamp_(min=0).minimum(last).unbind(1))
        for own, share in zip(labels, weight, strict=True):
            votes.addcmul_(own[at], share)
    return votes.div_(votes.sum(0))
