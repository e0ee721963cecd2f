"""Signs of the quality of a fused label map that need no truth: agreement, likeness, appearance, size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.agreement import bounding_window
from covoxel.fusion.base import Evidence, Fused, smallest_winner, weighted_vote
from covoxel.fusion.likeness import Pairs, comparable
from covoxel.fusion.windows import correlation
from covoxel.losses.box import box_sum

_REACH = 2  # voxels: half side of the windows compared, and thickness of the shell around a structure
_SEEN = 0.05  # a label with less of a voxel is not there

Signs = dict[str, float]
"""Numbers by name of sign, see `signs_of`."""


def signs_of(
    evidence: Evidence, results: Mapping[str, Fused], *, trust: Sequence[float] | None = None
) -> dict[str, Signs]:
    """Signs of quality of the results of several rules on one image.

    All are measured on the label map and the evidence, none on the probabilities but `expected` and `confidence`, so
    that what one rule taught holds for another. Those of a structure are averaged over the structures. "Near" is within
    two voxels of a structure of the result.

    ==================== =============================================================================================
    sign                 what it is (all of 0 to 1 but where said)
    ==================== =============================================================================================
    agreement            Dice of the result with the propagated labels, mean over the atlases (weighted by `trust`)
    agreement_typical    the same, median over the atlases: some broken atlases do not move it
    agreement_alike      the same, weighted by the fourth power of likeness near: what missed does not count
    agreement_least      agreement of the structure that agrees least
    with_vote            Dice of the result with the majority vote
    expected             Dice expected if the rule's probabilities were true
    confidence           mean confidence near
    likeness             mean near of the correlation (-1 to 1) of the windows of image and atlas, mean over atlases
    likeness_best        the same for the most alike atlas of each voxel
    likeness_mean        correlation (-1 to 1) near of the image with the mean of the moved atlases
    explained            share of the variance of the image's intensities near that its labels explain
    explained_atlases    the same of each atlas with its own labels, median
    profile              mean distance (0 up) of the mean intensities of the labels from those in the atlases
    alone                one over the number of atlases that see the image: one alone agrees with itself
    size                 logarithm (any sign) of volume over the median volume of the propagated labels, mean of sizes
    ==================== =============================================================================================

    Parameters
    ----------
    evidence
        The warped atlases.
    results
        Result of each rule on that evidence.
    trust
        Weight of each atlas, not negative, with a sum above zero; such as learned weights. None: all the same.

    Returns
    -------
    dict
        `{rule: {sign: number}}`, all finite. A label map without any structure has agreement, likeness and
        confidence 0.

    Raises
    ------
    ValueError
        If `trust` is not one finite, non-negative number an atlas.
    """
    weight = _trusted(trust, len(evidence.moved), evidence.fixed.device)
    seeing = evidence.valid.flatten(1).any(1)
    if not seeing.all() and float(weight[seeing].sum()) > 0:  # the others are as good as absent
        evidence, weight = evidence.of_atlases(seeing.nonzero()[:, 0]), weight[seeing]
    view = _View.of(evidence, results)
    if view is None:
        return {rule: dict.fromkeys(NAMES, 0.0) for rule in results}
    return {rule: _signs(view, fused, weight) for rule, fused in results.items()}


NAMES = (
    "agreement",
    "agreement_typical",
    "agreement_alike",
    "agreement_least",
    "with_vote",
    "expected",
    "confidence",
    "likeness",
    "likeness_best",
    "likeness_mean",
    "explained",
    "explained_atlases",
    "profile",
    "alone",
    "size",
)
"""Names of all signs."""


@dataclass(frozen=True, eq=False)
class _View:
    """What all rules of a case share: the window around all structures, and likeness in it."""

    window: tuple[Any, ...]
    evidence: Evidence
    pairs: Pairs
    alike: Tensor  # (atlas, *shape)
    vote: Tensor  # (structure, voxel) bool

    @classmethod
    def of(cls, evidence: Evidence, results: Mapping[str, Fused]) -> "_View | None":
        there = (evidence.labels[:, 1:] > _SEEN).any(1).any(0)
        for fused in results.values():
            there |= fused.label_map.to(there.device) != 0
        window = bounding_window(there, 2 * _REACH)
        if window is None:
            return None
        pairs, part = comparable(evidence, None, window), evidence.cropped(window)
        alike = correlation(pairs.fixed, pairs.moved, pairs.inside, _REACH)[:, 0]
        votes = weighted_vote(part, part.valid.to(part.labels.dtype))
        vote = _indicators(part.values[smallest_winner(votes)], part.values)
        return cls(window, part, pairs, alike, vote)


def _trusted(trust: Sequence[float] | None, atlases: int, device: torch.device) -> Tensor:
    weight = torch.ones(atlases) if trust is None else torch.as_tensor(trust, dtype=torch.float32)
    if weight.shape != (atlases,) or not weight.isfinite().all() or weight.min() < 0 or weight.sum() <= 0:
        raise ValueError(
            f"trust must be a finite number of 0 or more for each of {atlases} atlases, not all 0; got {trust}"
        )
    return (weight / weight.sum()).to(device)


def _signs(view: _View, fused: Fused, weight: Tensor) -> Signs:
    evidence, at = view.evidence, (..., *view.window)
    label_map = fused.label_map.to(evidence.fixed.device)[at]
    result = _indicators(label_map, evidence.values)
    near = box_sum((label_map != 0).to(evidence.fixed.dtype)[None, None], _REACH)[0, 0] > 0.5
    signs = {
        **_agreement(result, evidence, weight, _alike(view, near) * weight),
        "with_vote": _mean(_dice(result.float(), view.vote.float())),
        "expected": _mean(_dice(result.float(), fused.probabilities.to(evidence.fixed.device)[1:][at].flatten(1))),
        "confidence": _mean(fused.confidence.to(evidence.fixed.device)[at][near]),
        **_likeness(view, near, weight),
        **_appearance(view, label_map, near),
        "alone": 1 / len(evidence.moved),
    }
    return {name: signs[name] for name in NAMES}


def _alike(view: _View, near: Tensor) -> Tensor:
    """Fourth power of the mean likeness, `(atlas,)`, of each atlas near the structures, where it sees them."""
    inside = near & view.evidence.valid
    mean = (view.alike * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
    return mean.clamp(min=1e-3).pow(4)


def _agreement(result: Tensor, evidence: Evidence, weight: Tensor, alike: Tensor) -> Signs:
    """Agreement with the propagated labels, and size beside them."""
    labels, valid = evidence.labels[:, 1:].flatten(2), evidence.valid.flatten(1)[:, None]
    seen = result[None] & valid
    both, whole, own = (labels * seen).sum(2), seen.sum(2), (labels * valid).sum(2)
    overlap = 2 * both / (whole + own)  # nan where neither has the structure
    of_structures = _over_atlases(overlap, weight)
    size = ((result.sum(1) + 1) / (own.median(0).values + 1)).log()
    return {
        "agreement": _mean(of_structures),
        "agreement_typical": _mean(overlap.nanmedian(0).values),
        "agreement_alike": _mean(_over_atlases(overlap, alike)),
        "agreement_least": _least(of_structures),
        "size": _mean(size),
    }


def _over_atlases(overlap: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean, `(structure,)`, of `overlap` `(atlas, structure)` over the atlases for which it is known."""
    share = weight[:, None] * overlap.isfinite()
    return (overlap.nan_to_num() * share).sum(0) / share.sum(0)


def _likeness(view: _View, near: Tensor, weight: Tensor) -> Signs:
    if not near.any():
        return dict.fromkeys(("likeness", "likeness_best", "likeness_mean"), 0.0)
    alike, inside = view.alike[:, near], view.evidence.valid[:, near]
    share = weight[:, None] * inside
    seen = share.sum(0) > 0
    if not seen.any():
        return dict.fromkeys(("likeness", "likeness_best", "likeness_mean"), 0.0)
    alike, inside, share = alike[:, seen], inside[:, seen], share[:, seen]
    share = share / share.sum(0)
    mean_image = (view.pairs.moved[:, 0][:, near][:, seen] * share).sum(0)
    return {
        "likeness": _mean((alike * share).sum(0)),
        "likeness_best": _mean(alike.masked_fill(~inside, -1.0).amax(0)),
        "likeness_mean": _coefficient(view.pairs.fixed[0, 0][near][seen], mean_image),
    }


def _appearance(view: _View, label_map: Tensor, near: Tensor) -> Signs:
    """How well labels explain intensities near the structures, in the image and in the atlases."""
    values = view.evidence.values
    image, atlases = view.pairs.fixed[0, 0][near], view.pairs.moved[:, 0][:, near]
    if not near.any():
        return dict.fromkeys(("explained", "explained_atlases", "profile"), 0.0)
    shares = (label_map[near][None] == values.view(-1, 1)).to(image.dtype)
    own, of_image = _explained(image[None], shares[None])
    each, of_atlases = _explained(atlases, view.evidence.labels[:, :, near])
    profile = (of_image[0] - of_atlases.nanmedian(0).values).abs()
    return {"explained": _mean(own), "explained_atlases": _mean(each.median()), "profile": _mean(profile)}


def _explained(images: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Share of variance explained, `(image,)`, and mean intensities less the image's, `(image, label)`, nan if absent.

    `images` `(image, voxel)`, `shares` of the labels `(image, label, voxel)`.
    """
    centred = images - images.mean(1, keepdim=True)
    amount = shares.sum(2)
    means = (shares * centred[:, None]).sum(2) / amount
    between = (amount * means.nan_to_num().square()).sum(1)
    spread = centred.square().sum(1)
    return (between / (spread + 1e-6)).clamp(0, 1), torch.where(amount > 0.5, means, torch.nan)


def _coefficient(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / ((a.square().mean() * b.square().mean()).sqrt() + 1e-6))


def _indicators(label_map: Tensor, values: Tensor) -> Tensor:
    """`(structure, voxel)` bool of all labels but background."""
    return label_map.reshape(1, -1) == values[1:].view(-1, 1)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    """Dice, `(structure,)`, of two `(structure, voxel)` in 0 to 1; nan where both are empty."""
    whole = a.sum(1) + b.sum(1)
    return torch.where(whole > 0, 2 * (a * b).sum(1) / whole, torch.nan)


def _mean(x: Tensor) -> float:
    known = x[x.isfinite()]
    return float(known.mean()) if len(known) else 0.0


def _least(x: Tensor) -> float:
    known = x[x.isfinite()]
    return float(known.min()) if len(known) else 0.0
