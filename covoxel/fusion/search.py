"""The vote of windows nearby: what the rules that compare atlases and image window by window have in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.appearance import appearance_of
from covoxel.fusion.base import Evidence, weighted_vote
from covoxel.fusion.likeness import Kernel, Pairs, comparable, window_distance
from covoxel.fusion.source import Place, place_of
from covoxel.fusion.survey import votes_of
from covoxel.fusion.tiling import Window, beyond, bounding_window, grown, tiles, within
from covoxel.fusion.windows import window_count

_WORK = 2**25  # numbers of one quantity that are in memory at once


@dataclass(frozen=True)
class Look:
    """How windows are compared, and how far around the voxel.

    Parameters
    ----------
    kernel, radius
        Of `covoxel.fusion.likeness.window_distance`.
    normalisation_radius
        For "ssd": half side of the window whose mean and standard deviation normalise each intensity; None for
        those of the whole image.
    search
        Reach of the search in voxels along every axis.

    Raises
    ------
    ValueError
        If the kernel is unknown or a number negative.
    """

    kernel: Kernel
    radius: int
    normalisation_radius: int | None
    search: int

    def __post_init__(self) -> None:
        if self.kernel not in ("ssd", "lncc"):
            raise ValueError(f"kernel must be 'ssd' or 'lncc', got {self.kernel!r}")
        for name in ("radius", "normalisation_radius", "search"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def margin(self) -> int:
        """Voxels around the image's voxel that its windows and those of the search reach."""
        return self.radius + self.search


def offsets_within(reach: int, dimensions: int) -> Tensor:
    """Displacements, `(offset, n)` int64 in voxels, up to `reach` along every axis."""
    return torch.tensor(list(product(range(-reach, reach + 1), repeat=dimensions)), dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Sight:
    """Undecided voxels of a part of the image with what the image and the atlases look like around them.

    Parameters
    ----------
    look
        How they are compared.
    pairs
        The part with `look.margin` voxels more on every side.
    voxels
        `(m, n)` indices into `pairs`.
    offsets
        `(offset, n)`, the displacements searched.
    distance
        `(offset, atlas, m)`, infinite where an atlas is not inside.
    """

    look: Look
    pairs: Pairs
    voxels: Tensor
    offsets: Tensor
    distance: Tensor


Weigh = Callable[[Sight], Tensor]
"""From a `Sight` to weights `(offset, atlas, m)`, not negative, not all zero for a voxel, zero at infinite distance."""


def vote_nearby(evidence: Evidence, look: Look, weigh: Weigh, appearance: float, halo: int = 0) -> Tensor:
    """Probabilities, `(label, *shape)`, of votes of each atlas with its voxels nearby, weighted by `weigh`.

    Where all atlases agree on all labels nothing is left to weigh, and the label agreed on is kept. The rest is done
    in parts; beside the evidence and its intensities around the undecided voxels no quantity in memory has more than
    2^25 numbers.

    Parameters
    ----------
    evidence
        The warped atlases. Of a part, its core is answered for.
    look
        How windows are compared.
    weigh
        Weights of the votes.
    appearance
        Factor of the score of `covoxel.fusion.appearance`; 0 leaves it out.
    halo
        Voxels around one within which `weigh` is shown the other undecided ones as well.

    Raises
    ------
    ValueError
        If the exponent is negative.
    """
    if appearance < 0:
        raise ValueError(f"appearance must not be negative, got {appearance}")
    probabilities = weighted_vote(evidence, evidence.valid.to(evidence.labels.dtype))
    place = place_of(evidence, look.search)
    everywhere = votes_of(place.source).undecided
    undecided = everywhere[place.core]
    if not undecided.any():
        return probabilities
    _vote(evidence, place, look, weigh, halo, probabilities)
    if appearance > 0:
        # A view: what is written there is written into the probabilities.
        result = probabilities[(slice(None), *place.inner)]
        score = appearance_of(place.source).score(place.core, undecided, place.source.places_of(evidence.values))
        result[:, undecided] = (result[:, undecided].log() + appearance * score).softmax(0)
    return probabilities


def _vote(evidence: Evidence, place: Place, look: Look, weigh: Weigh, halo: int, probabilities: Tensor) -> None:
    """Write the votes of the voxels nearby at the undecided voxels of the core into `probabilities`."""
    source, everywhere = place.source, votes_of(place.source).undecided
    window = _reached(everywhere, place.core, halo, look.margin)
    pairs = comparable(source, look.normalisation_radius if look.kernel == "ssd" else None, window)
    pairs = pairs.padded(look.margin)
    undecided = everywhere[window]
    wanted, core = torch.zeros_like(undecided), within(place.core, window)
    inner = tuple(slice(max(0, c.start), c.stop) for c in core)
    wanted[inner] = undecided[inner]
    offsets = offsets_within(look.search, undecided.ndim).to(undecided.device)
    from_window = offsets.new_tensor([w.start - p.start for w, p in zip(window, place.window, strict=True)])
    room = _WORK // (source.atlases * len(offsets))
    for tile in tiles(wanted, voxels=room, size=_WORK // source.atlases, halo=halo, among=undecided):
        around = grown(tile, halo, tuple(undecided.shape))
        sight = _look_at(pairs, undecided, around, look, offsets)
        voxels = sight.voxels - look.margin + offsets.new_tensor([part.start for part in around])
        own = _within(voxels, tile)
        there = voxels[own] + from_window
        at: Any = (slice(None), *there.unbind(1))
        probabilities[at] = _votes(evidence.labels, there, offsets, weigh(sight)[:, :, own])


def _reached(undecided: Tensor, core: Window, halo: int, margin: int) -> Window:
    """The window of the undecided voxels in the core and its halo, and so much of a margin."""
    near = grown(core, halo, tuple(undecided.shape))
    found = bounding_window(undecided[near])
    assert found is not None
    return grown(beyond(found, near), margin, tuple(undecided.shape))


def _look_at(pairs: Pairs, undecided: Tensor, tile: tuple[slice, ...], look: Look, offsets: Tensor) -> Sight:
    """Sight of the undecided voxels of `tile`, from pairs that are `look.margin` wider on every side."""
    near = pairs.part(tuple(slice(part.start, part.stop + 2 * look.margin) for part in tile))
    voxels = undecided[tile].nonzero() + look.margin
    # Distances are wanted at the voxels of the tile: windows around them are enough.
    at: Any = (slice(None), *(voxels - look.search).unbind(1))
    count = window_count(near.inside, look.radius)  # it moves with the atlas
    distance = [
        window_distance(there, look.kernel, look.radius, count[:, :, *part])[at]
        for there, part in _shifted(near, look.search, offsets)
    ]
    return Sight(look, near, voxels, offsets, torch.stack(distance))


def _shifted(pairs: Pairs, search: int, offsets: Tensor) -> Iterator[tuple[Pairs, Window]]:
    """The pairs less `search` voxels on every side, with the atlases' voxels at each offset in place of their own.

    With each, the part of the atlases that it shows.
    """
    shape = [side - 2 * search for side in pairs.fixed.shape[2:]]
    still = tuple(slice(search, search + side) for side in shape)
    for offset in offsets.tolist():
        there = tuple(slice(search + o, search + o + side) for o, side in zip(offset, shape, strict=True))
        yield Pairs(pairs.fixed[:, :, *still], pairs.moved[:, :, *there], pairs.inside[:, :, *there]), there


def _within(voxels: Tensor, window: tuple[slice, ...]) -> Tensor:
    """Mask, `(m,)`, of the `voxels` `(m, n)` that lie in `window`."""
    first = voxels.new_tensor([part.start for part in window])
    stop = voxels.new_tensor([part.stop for part in window])
    return ((voxels >= first) & (voxels < stop)).all(1)


def _votes(labels: Tensor, voxels: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Probabilities, `(label, m)`, at `voxels` `(m, n)` of `labels` `(atlas, label, *shape)` at each offset."""
    last = voxels.new_tensor(labels.shape[2:]) - 1
    votes = labels.new_zeros((labels.shape[1], len(voxels)))
    for offset, weight in zip(offsets, weights, strict=True):
        # Beyond the image no atlas is inside: the weight is zero and any voxel will do.
        at: Any = (slice(None), *(voxels + offset).clamp_(min=0).minimum(last).unbind(1))
        for own, share in zip(labels, weight, strict=True):
            votes.addcmul_(own[at], share)
    return votes.div_(votes.sum(0))
