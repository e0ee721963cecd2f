"""Signs of the quality of a fused label map that need no truth: agreement, likeness, appearance, size."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.fusion.candidates import FusedImage
from covoxel.fusion.source import Source, source_of
from covoxel.fusion.survey import scales_of
from covoxel.fusion.tally import Tally, tallied

Signs = dict[str, float]
"""Numbers by name of sign, see `signs_of`."""


def signs_of(
    given: Source | Evidence, results: Mapping[str, FusedImage], *, trust: Sequence[float] | None = None
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
    given
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
    source = source_of(given)
    weight = _trusted(trust, source.atlases, source.device)
    seeing = scales_of(source).sees
    if not seeing.all() and float(weight[seeing].sum()) > 0:  # the others are as good as absent
        source, weight = source.of_atlases(seeing.nonzero()[:, 0].tolist()), weight[seeing]
    tallies = tallied(source, results, weight)
    if tallies is None:
        return {rule: dict.fromkeys(NAMES, 0.0) for rule in results}
    return {rule: _signs(tally, results[rule], weight) for rule, tally in tallies.items()}


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


def _trusted(trust: Sequence[float] | None, atlases: int, device: torch.device) -> Tensor:
    weight = torch.ones(atlases) if trust is None else torch.as_tensor(trust, dtype=torch.float32)
    if weight.shape != (atlases,) or not weight.isfinite().all() or weight.min() < 0 or weight.sum() <= 0:
        raise ValueError(
            f"trust must be a finite number of 0 or more for each of {atlases} atlases, not all 0; got {trust}"
        )
    return (weight / weight.sum()).to(device)


def _signs(tally: Tally, fused: FusedImage, weight: Tensor) -> Signs:
    found = tally.sums
    near = float(found["near"])
    alike = (found["alike"] / found["seen near"].clamp(min=1)).clamp(min=1e-3).pow(4)
    result, (right, expected) = found["result"][1:], fused.expected.to(weight.device)[:, 1:]
    signs = {
        **_agreement(found, weight, alike * weight),
        "with_vote": _mean(_dice(found["as voted"][1:], result + found["voted"][1:])),
        "expected": _mean(_dice(right, result + expected)),
        "confidence": float(found["confidence"]) / near if near else 0.0,
        **_likeness(found),
        **_appearance(found),
        "alone": 1 / len(weight),
    }
    return {name: signs[name] for name in NAMES}


def _dice(both: Tensor, whole: Tensor) -> Tensor:
    """Dice, `(structure,)`, of what is in both and the sum of the two; nan where both are empty."""
    return torch.where(whole > 0, 2 * both / whole, torch.nan)


def _agreement(found: Mapping[str, Tensor], weight: Tensor, alike: Tensor) -> Signs:
    """Agreement with the propagated labels, and size beside them."""
    own = found["own"][:, 1:]
    overlap = 2 * found["agreed"][:, 1:] / (found["result seen"][:, 1:] + own)  # nan where neither has the structure
    of_structures = _over_atlases(overlap, weight)
    size = ((found["result"][1:] + 1) / (own.median(0).values + 1)).log()
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


def _likeness(found: Mapping[str, Tensor]) -> Signs:
    seen = float(found["seen"])
    if not seen:
        return dict.fromkeys(("likeness", "likeness_best", "likeness_mean"), 0.0)
    return {
        "likeness": float(found["likeness"]) / seen,
        "likeness_best": float(found["likeness of the best"]) / seen,
        "likeness_mean": _coefficient(found["moments"] / seen),
    }


def _coefficient(moments: Tensor) -> float:
    """Correlation of two quantities by the means of a, b, a², b² and a b."""
    a, b, aa, bb, ab = moments.tolist()
    spread = math.sqrt(max(0.0, (aa - a * a) * (bb - b * b)))
    return float((ab - a * b) / (spread + 1e-6))


def _appearance(found: Mapping[str, Tensor]) -> Signs:
    """How well labels explain intensities near the structures, in the image and in the atlases."""
    near = float(found["near"])
    if not near:
        return dict.fromkeys(("explained", "explained_atlases", "profile"), 0.0)
    own, of_image = _explained(found["image"][None] / near, found["of image"][:, None], near)
    each, of_atlases = _explained(found["images"].T / near, found["of images"], near)
    profile = (of_image[0] - of_atlases.nanmedian(0).values).abs()
    return {"explained": _mean(own), "explained_atlases": _mean(each.median()), "profile": _mean(profile)}


def _explained(moments: Tensor, of_labels: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Share of variance explained, `(image,)`, and mean intensities less the image's, `(image, label)`, nan if absent.

    `moments` `(image, 2)` are the means of the intensities near and of their squares, `of_labels` `(2, image, label)`
    the voxels near that a label has, and the sum of their intensities.
    """
    mean, square = moments[:, :1], moments[:, 1]
    amount, total = of_labels
    means = total / amount - mean
    between = (amount * means.nan_to_num().square()).sum(1)
    spread = near * (square - mean[:, 0].square()).clamp(min=0)
    return (between / (spread + 1e-6)).clamp(0, 1), torch.where(amount > 0.5, means, torch.nan)


def _mean(x: Tensor) -> float:
    known = x[x.isfinite()]
    return float(known.mean()) if len(known) else 0.0


def _least(x: Tensor) -> float:
    known = x[x.isfinite()]
    return float(known.min()) if len(known) else 0.0
