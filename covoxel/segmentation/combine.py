"""What a network and the fused atlases say together: the network's label map, and that of the mean of both."""

from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.fusion.base import TIE_TOLERANCE, smallest_winner
from covoxel.segmentation.segmented import Segmented
from covoxel.spatial import Image


@dataclass(frozen=True, eq=False)
class Labelled:
    """A label map, int64, and its confidence, 0 to 1, on one grid."""

    label_map: Image
    confidence: Image


@dataclass(frozen=True, eq=False)
class Together:
    """Both results of `combine`.

    Parameters
    ----------
    joint
        The network's most probable labels.
    both
        The most probable labels of the mean of the network's probabilities and fusion's.
    """

    joint: Labelled
    both: Labelled


def combine(segmented: Segmented, fused: Labelled) -> Together:
    """Label maps of a network alone and of the network with fusion, each with the confidence of both in it.

    Of fusion its label is known and its confidence; what is left of 1 is spread evenly over the other labels, and a
    confidence below one over the number of labels says nothing of any. The confidence of either result is the mean of
    the probability that the network gives the label and of the one that fusion gives it: where both agree it is high,
    where they do not it is hardly above one half. As fusion prefers no label but its own, the mean is largest for its
    label or the network's, so no other probabilities are needed.

    Parameters
    ----------
    segmented
        What the network says, on the grid of `fused`.
    fused
        The fused label map and its confidence.

    Raises
    ------
    ValueError
        If the grids differ, or the network does not know a value of the fused label map.
    """
    grid, values = fused.label_map.grid, segmented.values
    if not segmented.grid.isclose(grid):
        raise ValueError(f"the network's labels must lie on the grid of the fused ones, {grid}, got {segmented.grid}")
    unknown = sorted(set(torch.unique(fused.label_map.data).tolist()) - set(values.tolist()))
    if unknown:
        raise ValueError(f"the network must know all labels of the atlases, and does not know {unknown[0]}")
    label = smallest_winner(segmented.probabilities)
    other = torch.searchsorted(values, fused.label_map.data.contiguous())
    certain = fused.confidence.data.float().clamp(1 / len(values), 1)
    left = torch.where(label == other, certain, (1 - certain) / (len(values) - 1))
    of_label = (_probability(segmented, label) + left) / 2
    of_other = (_probability(segmented, other) + certain) / 2
    ahead = of_other - of_label
    takes_other = (ahead > TIE_TOLERANCE) | ((ahead >= -TIE_TOLERANCE) & (other < label))
    both = torch.where(takes_other, other, label)
    return Together(
        Labelled(Image(values[label], grid), Image(of_label, grid)),
        Labelled(Image(values[both], grid), Image(torch.where(takes_other, of_other, of_label), grid)),
    )


def _probability(segmented: Segmented, places: Tensor) -> Tensor:
    """Probability, `(*shape)`, that the network gives the label at `places` `(*shape)` in the list of values."""
    return segmented.probabilities.gather(0, places[None])[0]
