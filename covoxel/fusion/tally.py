"""Tally: the sums over an image from which the signs of quality of its results are worked out, part by part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence, smallest_winner, weighted_vote
from covoxel.fusion.candidates import FusedImage
from covoxel.fusion.likeness import comparable
from covoxel.fusion.source import Source
from covoxel.fusion.tiling import Window, grown, within
from covoxel.fusion.windows import correlation
from covoxel.losses.box import box_sum

_REACH = 2  # voxels: half side of the windows compared, and thickness of the shell around a structure
_SEEN = 0.05  # a label with less of a voxel is not there


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums of one result, float64, over the whole image, or over what is near: within two voxels of a structure of it.

    ==================== =============================================================================================
    sum                  of what, and its shape
    ==================== =============================================================================================
    own                  propagated labels where the atlas sees, `(atlas, label)`
    agreed               the same where the result says so too
    result seen          voxels of the result that the atlas sees, `(atlas, label)`
    result               voxels of the result, `(label,)`
    voted, as voted      voxels of the majority vote, and those where the result is the same, `(label,)`
    near, confidence     voxels near, and the confidence there
    alike, seen near     likeness near where the atlas sees, and the voxels, `(atlas,)`
    seen                 voxels near that an atlas sees which is trusted
    likeness             likeness there, mean over the atlases by trust
    likeness of the best that of the most alike atlas there
    moments              of the image and the mean of the atlases there: a, b, a², b², a b
    image, images        intensities near and their squares, `(2,)`, and of the atlases `(2, atlas)`
    of image             voxels near of each label of the result, and their intensities, `(2, label)`
    of images            the same of the atlases and their own labels, `(2, atlas, label)`
    ==================== =============================================================================================
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, **parts: Tensor) -> None:
        """Add the sums of a part; underscores stand for the spaces of their names."""
        for word, part in parts.items():
            name, own = word.replace("_", " "), part.double()
            self.sums[name] = self.sums[name] + own if name in self.sums else own


@dataclass(frozen=True, eq=False)
class _Part:
    """What all results share on a part of the image."""

    source: Source
    window: Window
    evidence: Evidence
    places: Tensor  # (label,): the part's labels in the list of the source
    vote: Tensor  # (*window): place of the majority's label


@dataclass(frozen=True, eq=False)
class _Looks:
    """Standardised intensities of image and atlases, and how alike they are, `(atlas, *window)`."""

    fixed: Tensor
    moved: Tensor
    alike: Tensor


def tallied(source: Source, results: Mapping[str, FusedImage], weight: Tensor) -> dict[str, Tally] | None:
    """Tallies by rule; None if there is no structure in the atlases or the results.

    Parameters
    ----------
    source
        The warped atlases.
    results
        By rule.
    weight
        `(atlas,)`, summing to one.
    """
    tallies: dict[str, Tally] = {rule: _empty(source) for rule in results}
    anything = False
    for window in source.windows(reach=_REACH):
        part = _part(source, window)
        anything = _tally_part(part, results, tallies, weight) or anything
    return tallies if anything else None


def _part(source: Source, window: Window) -> _Part:
    evidence = source.evidence(window)
    vote = smallest_winner(weighted_vote(evidence, evidence.valid.to(evidence.labels.dtype)))
    places = source.places_of(evidence.values)
    return _Part(source, window, evidence, places, places[vote])


def _tally_part(part: _Part, results: Mapping[str, FusedImage], tallies: Mapping[str, Tally], weight: Tensor) -> bool:
    """Add a part to all tallies; whether there is a structure."""
    near = {rule: _near(fused.label_map, part) for rule, fused in results.items()}
    labelled = bool((part.evidence.labels[:, 1:] > _SEEN).any())
    own = torch.zeros((part.source.atlases, len(part.source.values)), dtype=torch.float64, device=weight.device)
    seen = part.evidence.valid.flatten(1).float()[:, None]
    own[:, part.places] = (part.evidence.labels.flatten(2) * seen).sum(2, dtype=torch.float64)
    looks = _looks(part) if any(bool(mask.any()) for mask in near.values()) else None
    for rule, fused in results.items():
        tallies[rule].add(own=own)
        _tally_labels(tallies[rule], part, fused)
        if looks is not None and near[rule].any():
            _tally_near(tallies[rule], part, looks, fused, near[rule], weight)
    return labelled or looks is not None


def _near(label_map: Tensor, part: _Part) -> Tensor:
    """Mask, `(*window)`, of the voxels near a structure of a result."""
    wide = grown(part.window, _REACH, part.source.shape)
    there = (label_map[wide].to(part.source.device) != 0).float()
    mask: Tensor = (box_sum(there[None, None], _REACH)[0, 0] > 0.5)[within(part.window, wide)]
    return mask


def _looks(part: _Part) -> _Looks:
    wide = grown(part.window, _REACH, part.source.shape)
    pairs = comparable(part.source, None, wide)
    own: Any = (slice(None), *within(part.window, wide))
    alike = correlation(pairs.fixed, pairs.moved, pairs.inside, _REACH)[:, 0][own]
    return _Looks(pairs.fixed[0, 0][own[1:]], pairs.moved[:, 0][own], alike)


def _tally_labels(tally: Tally, part: _Part, fused: FusedImage) -> None:
    """What the result is, and what the atlases and the majority say of it."""
    labels, evidence = len(part.source.values), part.evidence
    place = _places(part, fused)
    vote, valid = part.vote.flatten(), evidence.valid.flatten(1)
    # The result may have labels of the voxels around that none of the part's own has.
    local = torch.full((labels,), len(part.places), device=place.device)
    local[part.places] = torch.arange(len(part.places), device=place.device)
    index = local[place]
    said = evidence.labels.flatten(2).gather(1, index.clamp(max=len(part.places) - 1).expand(len(valid), 1, -1))[:, 0]
    said = said * valid * (index < len(part.places))
    tally.add(
        agreed=torch.stack([torch.bincount(place, own.double(), labels) for own in said]),
        result_seen=torch.stack([torch.bincount(place[own], minlength=labels) for own in valid]),
        result=torch.bincount(place, minlength=labels),
        voted=torch.bincount(vote, minlength=labels),
        as_voted=torch.bincount(place[place == vote], minlength=labels),
    )


def _tally_near(tally: Tally, part: _Part, looks: _Looks, fused: FusedImage, near: Tensor, weight: Tensor) -> None:
    """What image and atlases look like near the structures of the result."""
    labels, evidence = len(part.source.values), part.evidence
    image, moved, alike = looks.fixed[near], looks.moved[:, near], looks.alike[:, near]
    inside, place = evidence.valid[:, near], _places(part, fused)[near.flatten()]
    own = evidence.labels[:, :, near]
    of_images = torch.zeros((2, len(moved), labels), dtype=torch.float64, device=weight.device)
    of_images[0][:, part.places] = own.sum(2, dtype=torch.float64)
    of_images[1][:, part.places] = torch.einsum("alv,av->al", own, moved).double()
    tally.add(
        near=near.sum(),
        confidence=fused.confidence.to(weight.device)[part.window][near].double().sum(),
        alike=(alike * inside).sum(1, dtype=torch.float64),
        seen_near=inside.sum(1),
        image=torch.stack([image.double().sum(), image.double().square().sum()]),
        images=torch.stack([moved.sum(1, dtype=torch.float64), moved.double().square().sum(1)]),
        of_image=torch.stack([torch.bincount(place, w, labels) for w in (torch.ones_like(image), image)]),
        of_images=of_images,
    )
    _tally_likeness(tally, image, moved, alike, inside, weight)


def _tally_likeness(tally: Tally, image: Tensor, moved: Tensor, alike: Tensor, inside: Tensor, weight: Tensor) -> None:
    """Likeness at the voxels near, `(atlas, m)`, that a trusted atlas sees."""
    share = weight[:, None] * inside
    seen = share.sum(0) > 0
    share, alike, inside, image = share[:, seen], alike[:, seen], inside[:, seen], image[seen].double()
    share = share / share.sum(0)
    mean = (moved[:, seen] * share).sum(0).double()
    pairs = (image, mean, image.square(), mean.square(), image * mean)
    tally.add(
        seen=seen.sum(),
        likeness=(alike * share).sum(dtype=torch.float64),
        likeness_of_the_best=alike.masked_fill(~inside, -1.0).amax(0).sum(dtype=torch.float64),
        moments=torch.stack([own.sum() for own in pairs]),
    )


def _places(part: _Part, fused: FusedImage) -> Tensor:
    """Place of the result's label in the list of the source, `(voxel,)`."""
    return part.source.places_of(fused.label_map[part.window].to(part.source.values)).flatten()


def _empty(source: Source) -> Tally:
    """A tally of nothing near."""
    tally, zero = Tally(), torch.zeros((), device=source.device)
    one_each = torch.zeros(source.atlases, device=source.device)
    tally.add(near=zero, confidence=zero, seen=zero, alike=one_each, seen_near=one_each)
    return tally
