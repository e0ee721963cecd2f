"""What networks and the fused atlases say together: each network's label map, and those of means of all they say."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from covoxel.fusion.base import TIE_TOLERANCE, smallest_winner
from covoxel.segmentation.candidates import FUSION, candidates_of, members_of, networks_of
from covoxel.segmentation.segmented import Segmented
from covoxel.spatial import Image


@dataclass(frozen=True, eq=False)
class Labelled:
    """A label map, int64, and its confidence, 0 to 1, on one grid."""

    label_map: Image
    confidence: Image


def combine(said: Mapping[str, Segmented], fused: Labelled) -> dict[str, Labelled]:
    """Label maps of networks alone and averaged with fusion, each with the confidence of all of them in it.

    Of fusion its label is known and its confidence; what is left of 1 is spread evenly over the other labels, and a
    confidence below one over the number of labels says nothing of any. The confidence of a result is the mean of the
    probabilities that fusion and all networks give the label: where all agree it is high, where one does not it is
    not. As fusion prefers no label but its own, a mean with it is largest for its label or for that of the mean of
    the networks, so no other probabilities are needed.

    Parameters
    ----------
    said
        What each network says, on the grid of `fused`, by its name.
    fused
        The fused label map and its confidence.

    Returns
    -------
    dict
        By name of the candidate (`covoxel.segmentation.candidates`), without fusion itself.

    Raises
    ------
    ValueError
        If grids or values differ, or the networks do not know a value of the fused label map.
    """
    values = _common(said, fused)
    everyone = _Everyone(said, fused, values)
    return {name: everyone.result(name) for name in candidates_of(tuple(said)) if name != FUSION}


class _Everyone:
    """All that is said of a case."""

    def __init__(self, said: Mapping[str, Segmented], fused: Labelled, values: Tensor) -> None:
        self.values, self.grid = values, fused.label_map.grid
        self.probabilities = {name: each.probabilities for name, each in said.items()}
        self.other = torch.searchsorted(values, fused.label_map.data.contiguous())
        self.certain = fused.confidence.data.float().clamp(1 / len(values), 1)

    def result(self, candidate: str) -> Labelled:
        """Label map and confidence of a candidate."""
        networks = [self.probabilities[name] for name in networks_of(candidate)]
        total = reduce(torch.add, networks)
        label = smallest_winner(total)
        if FUSION in members_of(candidate):
            of_other = _at(total, self.other) + self.certain
            ahead = (of_other - _at(total, label) - self._fused(label)) / (len(networks) + 1)
            takes_other = (ahead > TIE_TOLERANCE) | ((ahead >= -TIE_TOLERANCE) & (self.other < label))
            label = torch.where(takes_other, self.other, label)
        confidence = sum((_at(each, label) for each in self.probabilities.values()), self._fused(label))
        confidence = confidence / (len(self.probabilities) + 1)
        return Labelled(Image(self.values[label], self.grid), Image(confidence, self.grid))

    def _fused(self, places: Tensor) -> Tensor:
        """Probability that fusion gives the labels at `places`."""
        left = (1 - self.certain) / (len(self.values) - 1)
        return torch.where(places == self.other, self.certain, left)


def _common(said: Mapping[str, Segmented], fused: Labelled) -> Tensor:
    """Values that all know."""
    grid, first = fused.label_map.grid, next(iter(said.values())).values
    for each in said.values():
        if not each.grid.isclose(grid):
            raise ValueError(f"a network's labels must lie on the grid of the fused ones, {grid}, got {each.grid}")
        if not torch.equal(each.values, first):
            raise ValueError(f"networks must know the same labels, got {first.tolist()} and {each.values.tolist()}")
    unknown = sorted(set(torch.unique(fused.label_map.data).tolist()) - set(first.tolist()))
    if unknown:
        raise ValueError(f"a network must know all labels of the atlases, and does not know {unknown[0]}")
    return first


def _at(probabilities: Tensor, places: Tensor) -> Tensor:
    """Probability, `(*shape)`, of the label at `places` `(*shape)` in the list of values."""
    return probabilities.gather(0, places[None])[0]
