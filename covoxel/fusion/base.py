"""What every fusion rule is given, what it returns, and the rule for ties and label sets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from covoxel.registry import Registry

if TYPE_CHECKING:
    from covoxel.fusion.source import Place

TIE_TOLERANCE = 1e-5
"""Probabilities closer than this are a tie; far above float32 rounding, far below any vote."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything the atlases say about one fixed image, or about a part of it, on its grid.

    The label set is the union over the atlases: an atlas in which a label does not occur has a zero indicator
    there and so votes against it wherever it votes. Where an atlas is not valid it does not vote at all.

    Parameters
    ----------
    fixed
        `(*shape)` intensities of the image to label, 2-D or 3-D.
    moved
        `(atlas, *shape)` intensities of the atlases, warped.
    labels
        `(atlas, label, *shape)` float32, interpolated indicators of the labels; they sum to one over `label`.
    values
        `(label,)` int64 label values in ascending order, 0 (background) first; of a part, those that occur there.
    valid
        `(atlas, *shape)` bool, whether the voxel lies inside the atlas' field of view.
    place
        Of what this is a part (`covoxel.fusion.source`): rules take from there what depends on the whole image, and
        their answer holds for the core of the part. None: this is the whole.

    Raises
    ------
    ValueError
        If shapes do not belong together, or `values` are not ascending from 0.
    """

    fixed: Tensor
    moved: Tensor
    labels: Tensor
    values: Tensor
    valid: Tensor
    place: "Place | None" = None

    def __post_init__(self) -> None:
        shape = tuple(self.fixed.shape)
        atlases, count = self.moved.shape[0], self.values.numel()
        if len(shape) not in (2, 3) or atlases < 1:
            raise ValueError(f"fixed must be 2-D or 3-D and moved hold an atlas, got {shape} and {atlases} atlases")
        for name, got, rule in (
            ("moved", self.moved, (atlases, *shape)),
            ("labels", self.labels, (atlases, count, *shape)),
            ("valid", self.valid, (atlases, *shape)),
        ):
            if tuple(got.shape) != rule:
                raise ValueError(f"{name} must have shape {rule}, got {tuple(got.shape)}")
        if self.valid.dtype != torch.bool:
            raise ValueError(f"valid must be boolean, got {self.valid.dtype}")
        values = self.values.tolist()
        if values[:1] != [0] or values != sorted(set(values)):
            raise ValueError(f"values must ascend from 0 (background), got {values}")

    def of_atlases(self, atlases: Tensor) -> "Evidence":
        """The evidence of some atlases alone, given by their indices `(atlas,)`, in that order; copies."""
        index = atlases.to(self.moved.device)
        place = self.place
        if place is not None:
            place = replace(place, source=place.source.of_atlases(atlases.tolist()))
        return replace(self, moved=self.moved[index], labels=self.labels[index], valid=self.valid[index], place=place)


@dataclass(frozen=True, eq=False)
class Fused:
    """The result of a fusion of evidence, which may be a part of an image.

    Parameters
    ----------
    label_map
        `(*shape)` int64 label values. Ties (probabilities within 1e-5) go to the smallest value, so background wins
        against any structure.
    confidence
        `(*shape)` float32 in 0 to 1: the probability of the label given; 1 where all atlases agree, 0 where none sees
        the voxel (which is then background).
    probabilities
        `(label, *shape)` float32, summing to one.
    """

    label_map: Tensor
    confidence: Tensor
    probabilities: Tensor


FusionRule = Callable[..., Tensor]
"""`f(evidence, **settings) -> probabilities (label, *shape)` float32 in 0 to 1, summing to one over `label`.

Evidence may be a part of an image: the answer must then hold for its core, and be what it would be of the whole image.
What depends on all of it is asked of `covoxel.fusion.source.source_of(evidence)`.
"""

FUSION_RULES: Registry[FusionRule] = Registry("fusion rule", "covoxel.fusion")


def fuse(rule: str, evidence: Evidence, **settings: Any) -> Fused:
    """Label map, confidence and probabilities by one rule of `FUSION_RULES`.

    The order of the atlases changes probabilities by float32 rounding only (1e-5), and the label map nowhere but
    where two labels tie to that precision.

    Parameters
    ----------
    rule
        Name in `FUSION_RULES`.
    evidence
        The warped atlases; of a part, the result is that of its core.
    **settings
        Settings of that rule.

    Raises
    ------
    KeyError
        If the rule is unknown.
    """
    probabilities, seen = FUSION_RULES[rule](evidence, **settings), evidence.valid.any(0)
    if evidence.place is not None:
        inner = evidence.place.inner
        probabilities, seen = probabilities[(slice(None), *inner)], seen[inner]
    return fused_of(probabilities, evidence.values, seen)


def fused_of(probabilities: Tensor, values: Tensor, seen: Tensor) -> Fused:
    """The result that probabilities `(label, *shape)` are, of labels `values`; `seen`: where there is an atlas."""
    winner = smallest_winner(probabilities)
    confidence = probabilities.gather(0, winner[None])[0].clamp(0, 1)
    return Fused(values.to(winner.device)[winner], confidence.masked_fill(~seen, 0.0), probabilities)


def smallest_type(values: Tensor) -> torch.dtype:
    """The smallest whole-number type that holds these label values."""
    least, most = int(values.min()), int(values.max())
    kinds = (torch.uint8, torch.int16, torch.int32)
    fits = (kind for kind in kinds if torch.iinfo(kind).min <= least and most <= torch.iinfo(kind).max)
    return next(fits, torch.int64)


def smallest_winner(probabilities: Tensor) -> Tensor:
    """Index, `(*shape)` int64, of the largest of `probabilities` `(label, *shape)`; a tie goes to the smallest."""
    best = probabilities.amax(0) - TIE_TOLERANCE
    winner = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
    for index in range(probabilities.shape[0] - 1, -1, -1):
        winner.masked_fill_(probabilities[index] >= best, index)
    return winner


def weighted_vote(evidence: Evidence, weights: Tensor) -> Tensor:
    """Probabilities, `(label, *shape)`, of the votes of all atlases with non-negative `weights` `(atlas, *shape)`.

    Weights where an atlas is not valid must be zero. A voxel without any weight is background.
    """
    probabilities = torch.zeros_like(evidence.labels[0])
    for labels, weight in zip(evidence.labels, weights, strict=True):
        probabilities.addcmul_(labels, weight)
    total = probabilities.sum(0)
    probabilities /= total.clamp(min=torch.finfo(total.dtype).tiny)
    probabilities[0].masked_fill_(total <= 0, 1.0)
    return probabilities
