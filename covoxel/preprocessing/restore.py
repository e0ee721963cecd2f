"""The way back: probabilities, maps and labels onto each case's own grid, by one interpolation or none."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from covoxel.preprocessing.lattice import copy_voxels, shared_lattice
from covoxel.spatial import Grid, Image, Transform, sample

_EDGE_VOX = 1e-3
_TIE_TOLERANCE = 1e-5
_NUMBERS = 2**22  # probabilities that are interpolated at once

Window = tuple[slice, ...]
"""A box of a grid, one slice with a start and a stop for each axis."""


def restore_probabilities(probabilities: Tensor, from_grid: Grid, onto_grid: Grid) -> Tensor:
    """Label probabilities on another grid of the same world.

    Parameters
    ----------
    probabilities
        `(label, *from_grid.shape)`, the first label background.
    from_grid, onto_grid
        Where they lie and where they are wanted, such as a preprocessed grid and a case's own.

    Returns
    -------
    Tensor
        `(label, *onto_grid.shape)`. A copy where the grids share their voxels (turned, flipped, cropped, padded),
        else linear; up to the outer faces of `from_grid` its border continues, beyond is background.
    """
    result = _restore(probabilities, from_grid, onto_grid, fill=torch.nan)
    outside = result[0].isnan()
    result.masked_fill_(outside, 0.0)
    result[0].masked_fill_(outside, 1.0)
    return result


def restore_map(values: Tensor, from_grid: Grid, onto_grid: Grid) -> Image:
    """A scalar map `(*from_grid.shape)`, such as confidence, on another grid, as `restore_probabilities`; 0 beyond."""
    return Image(_restore(values[None], from_grid, onto_grid, fill=0.0)[0], onto_grid)


def restore_labels(
    probabilities: Tensor, from_grid: Grid, onto_grid: Grid, *, values: Tensor | Sequence[int] | None = None
) -> Image:
    """Label map on another grid: probabilities by `restore_probabilities`, then the largest.

    Parameters
    ----------
    probabilities
        `(label, *from_grid.shape)`, the first label background.
    from_grid, onto_grid
        Where they lie and where the label map is wanted.
    values
        `(label,)` the label values; by default 0, 1, 2, …

    Returns
    -------
    Image
        int64 label map. A tie (within 1e-5) goes to the first label.
    """
    if values is None:
        values = range(len(probabilities))
    table = torch.as_tensor(list(values) if not isinstance(values, Tensor) else values).to(probabilities.device)
    if len(table) != len(probabilities):
        raise ValueError(f"values must be as many as probabilities ({len(probabilities)}), got {len(table)}")
    if tuple(probabilities.shape[1:]) != from_grid.shape:
        raise ValueError(f"values must lie on the grid {from_grid}, got shape {tuple(probabilities.shape[1:])}")
    everything = tuple(slice(0, side) for side in from_grid.shape)
    restorer = LabelRestorer(from_grid, onto_grid, torch.int64)
    restorer.put(everything, everything, probabilities, table)
    return restorer.restored(table.to(torch.int64)[_winner(probabilities)])


class LabelRestorer:
    """Makes a label map on another grid from probabilities that come part by part, as `restore_labels` does of all.

    Parameters
    ----------
    from_grid, onto_grid
        Where the parts lie and where the label map is wanted.
    kind
        Type of the label map.
    """

    def __init__(self, from_grid: Grid, onto_grid: Grid, kind: torch.dtype) -> None:
        self._from, self._onto = from_grid, onto_grid
        self._lattice = shared_lattice(from_grid, onto_grid)
        self._found = torch.zeros(onto_grid.shape if self._lattice is None else (0,), dtype=kind)
        self._from_onto = from_grid.voxel_from_ras @ onto_grid.ras_from_voxel

    @property
    def reach(self) -> int:
        """Voxels around a part of which probabilities are needed: none where grids share their voxels."""
        return 0 if self._lattice is not None else 1

    def put(self, part: Window, around: Window, probabilities: Tensor, values: Tensor) -> None:
        """Find the labels of the voxels of the other grid that lie in the voxels of a part.

        Parameters
        ----------
        part
            A box of the first grid; of all parts together, every voxel is in one.
        around
            It and `reach` voxels on every side, as far as the grid goes.
        probabilities
            `(label, *around)`.
        values
            `(label,)`.
        """
        box = None if self._lattice is not None else self._box(part)
        if box is None:
            return
        rows = max(1, _NUMBERS * (box[0].stop - box[0].start) // (len(values) * _size(box)))
        for start in range(box[0].start, box[0].stop, rows):
            self._put((slice(start, min(start + rows, box[0].stop)), *box[1:]), part, around, probabilities, values)

    def restored(self, label_map: Tensor) -> Image:
        """The label map; `label_map` `(*from_grid.shape)` is the one on the first grid."""
        if self._lattice is None:
            return Image(self._found, self._onto)
        return Image(copy_voxels(label_map.cpu(), self._lattice, self._onto.shape, fill=0), self._onto)

    def _put(self, box: Window, part: Window, around: Window, probabilities: Tensor, values: Tensor) -> None:
        within = torch.ones(tuple(own.stop - own.start for own in box), dtype=torch.bool)
        places = []
        for axis, own in enumerate(part):
            at = self._coordinate(axis, box)
            low, high = self._faces(axis, own)
            within &= (at >= low) & (at < high)
            places.append((at - around[axis].start).float())
        if not within.any():
            return
        there = torch.stack(places)[None].to(probabilities.device)
        winner = _winner(sample(probabilities[None].float(), there)[0])
        self._found[box][within] = values.to(winner.device)[winner].to(self._found.dtype).cpu()[within]

    def _coordinate(self, axis: int, box: Window) -> Tensor:
        """Where the voxels of a box of the other grid lie along an axis of the first one, float64: the same anywhere.

        Every voxel is to be in one part exactly, whatever the box it is looked at with.
        """
        at = torch.tensor(self._from_onto[axis, -1], dtype=torch.float64)
        for other, own in enumerate(box):
            along = torch.arange(own.start, own.stop, dtype=torch.float64) * float(self._from_onto[axis, other])
            at = at + along.view(-1, *[1] * (len(box) - other - 1))
        return at

    def _faces(self, axis: int, own: slice) -> tuple[float, float]:
        """Between which coordinates the voxels of a part lie; at the border of the grid a little farther."""
        low = own.start - 0.5 - (_EDGE_VOX if own.start == 0 else 0.0)
        last = own.stop == self._from.shape[axis]
        return low, own.stop - 0.5 + (_EDGE_VOX if last else 0.0)

    def _box(self, part: Window) -> Window | None:
        """The box of the other grid in which all of a part lies; None if it is empty."""
        n = len(part)
        faces = [self._faces(axis, own) for axis, own in enumerate(part)]
        corners = np.stack(np.meshgrid(*faces, indexing="ij"), -1).reshape(-1, n)
        onto_from = np.linalg.inv(self._from_onto)
        there = corners @ onto_from[:n, :n].T + onto_from[:n, n]
        low, high = np.floor(there.min(0)).astype(int), np.ceil(there.max(0)).astype(int) + 1
        sides = zip(low.tolist(), high.tolist(), self._onto.shape, strict=True)
        box = tuple(slice(max(0, a), min(side, b)) for a, b, side in sides)
        return box if all(own.start < own.stop for own in box) else None


def _size(box: Window) -> int:
    return prod(own.stop - own.start for own in box)


def _winner(probabilities: Tensor) -> Tensor:
    """Place of the largest, `(*shape)`; a tie goes to the first."""
    largest = probabilities.amax(0) - _TIE_TOLERANCE
    return (probabilities >= largest).to(torch.uint8).argmax(0)


def _restore(values: Tensor, from_grid: Grid, onto_grid: Grid, *, fill: float) -> Tensor:
    """Channels `(channel, *from_grid.shape)` on `onto_grid`, `fill` outside the faces of `from_grid`."""
    if tuple(values.shape[1:]) != from_grid.shape:
        raise ValueError(f"values must lie on the grid {from_grid}, got shape {tuple(values.shape[1:])}")
    lattice = shared_lattice(from_grid, onto_grid)
    if lattice is not None:
        return copy_voxels(values.float(), lattice, onto_grid.shape, fill=fill)
    coordinates = Transform.identity(onto_grid).moving_coordinates_vox(from_grid, values.device)
    outside = torch.zeros(onto_grid.shape, dtype=torch.bool, device=values.device)
    for axis, side in enumerate(from_grid.shape):
        outside |= (coordinates[0, axis] < -0.5 - _EDGE_VOX) | (coordinates[0, axis] > side - 0.5 + _EDGE_VOX)
    return sample(values[None].float(), coordinates)[0].masked_fill_(outside, fill)
