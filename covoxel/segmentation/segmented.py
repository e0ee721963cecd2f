"""What a network says of one image: probabilities of labels, averaged over several views, and how far these differ."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.fusion.base import smallest_winner
from covoxel.spatial import Grid, Image, sample

CHUNK_BYTES = 2**28
"""What is held at once of probabilities beside their mean, and beside the working memory of the network."""
NEAR = 0.05
"""A voxel is near a structure where structures have more than this probability."""

_WHOLE_VOX = 1e-3
"""Coordinates so close to a voxel's centre are taken as that."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """Probabilities of labels.

    Parameters
    ----------
    grid
        Where they lie.
    values
        `(label,)` int64 label values in ascending order, 0 (background) first.
    probabilities
        `(label, *grid.shape)` float32, summing to one; background where no view has data.
    spread
        Disagreement of the views, 0 to 1: the share of them whose most probable label is another one than that of
        the mean, averaged over the voxels near structures (where these have together more than 5 % probability);
        0 where there are none, and of one view.
    """

    grid: Grid
    values: Tensor
    probabilities: Tensor
    spread: float

    @property
    def label_map(self) -> Tensor:
        """`(*grid.shape)` int64 values of the most probable labels; a tie (within 1e-5) goes to the smallest."""
        return self.values[smallest_winner(self.probabilities)]

    @property
    def image(self) -> Image:
        """The label map on its grid."""
        return Image(self.label_map, self.grid)


class ViewMean:
    """Mean of what several views say; each voxel over the views that see it.

    The first view is the image itself: beyond it others see nothing but its border continued.

    Parameters
    ----------
    values
        Of the labels.
    grid
        Where the mean is wanted.
    device
        Where it is held.
    """

    def __init__(self, values: tuple[int, ...], grid: Grid, device: torch.device | str) -> None:
        self.values, self.grid = values, grid
        self._total = torch.zeros((len(values), *grid.shape), device=device)
        self._views = torch.zeros(grid.shape, device=device)
        self._first: Tensor | None = None
        self._said: list[Tensor] = []

    def add(self, probabilities: Tensor, coordinates_vox: Tensor) -> None:
        """Add a view.

        Parameters
        ----------
        probabilities
            `(label, *shape)` on the grid of the view.
        coordinates_vox
            `(1, n, *grid.shape)`, where in the view each voxel lies; up to half a voxel beyond its outer voxels the
            view has data.
        """
        nearest = coordinates_vox.round()
        at = torch.where((coordinates_vox - nearest).abs() < _WHOLE_VOX, nearest, coordinates_vox)
        sides = torch.tensor(probabilities.shape[1:], device=at.device).view(-1, *[1] * (at.ndim - 2))
        seen = ((at[0] >= -0.5 - _WHOLE_VOX) & (at[0] <= sides - 0.5 + _WHOLE_VOX)).all(0)
        self._first = seen if self._first is None else self._first
        seen = seen & self._first
        most = torch.full_like(self._views, -1.0)
        said = torch.zeros(self.grid.shape, dtype=torch.int16, device=at.device)
        for rows in _chunks(len(self.values), self.grid.size):
            part = sample(probabilities[None, rows], at)[0]
            self._total[rows].addcmul_(part, seen.to(part.dtype))
            largest, label = part.max(0)
            better = largest > most
            most[better] = largest[better]
            said[better] = (label + rows.start).to(torch.int16)[better]
        self._views += seen
        self._said.append(said.masked_fill_(~seen, -1))

    def segmented(self) -> Segmented:
        """The mean, on the CPU; nothing can be added any more."""
        self._total /= self._views.clamp(min=1)
        self._total[0] += self._views == 0
        spread = self._spread()
        return Segmented(self.grid, torch.tensor(self.values), self._total.cpu(), spread)

    def _spread(self) -> float:
        near = (1 - self._total[0] > NEAR) & (self._views > 0)
        if len(self._said) < 2 or not near.any():
            return 0.0
        winner = smallest_winner(self._total)[near]
        other = sum(((said[near] != winner) & (said[near] >= 0)).double() for said in self._said)
        return float((other / self._views[near]).mean())


def probabilities_of(logits: Tensor, labels: int) -> Tensor:
    """Softmax of logits `(batch, label, *shape)` over the labels, in place.

    Raises
    ------
    ValueError
        If there are not as many labels, or a logit is not finite.
    """
    if logits.shape[1] != labels:
        raise ValueError(f"the network must say {labels} labels, got {logits.shape[1]}")
    logits -= logits.amax(1, keepdim=True)
    logits.exp_()
    logits /= logits.sum(1, keepdim=True)
    if not all(bool(each.isfinite().all()) for each in logits.flatten(0, 1)):
        raise ValueError("what the network says must be finite, got NaN or infinity")
    return logits


def at_once(labels: int, grid: Grid) -> int:
    """How many views' probabilities on `grid` are held at once."""
    return max(1, CHUNK_BYTES // (4 * labels * grid.size))


def _chunks(labels: int, voxels: int) -> Iterator[slice]:
    rows = max(1, CHUNK_BYTES // (4 * voxels))
    for start in range(0, labels, rows):
        yield slice(start, min(labels, start + rows))
