"""The way back: probabilities, maps and labels onto each case's own grid, by one interpolation or none."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.preprocessing.lattice import copy_voxels, shared_lattice
from covoxel.spatial import Grid, Image, Transform, sample

_EDGE_VOX = 1e-3
_TIE_TOLERANCE = 1e-5


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
    restored = restore_probabilities(probabilities, from_grid, onto_grid)
    if values is None:
        values = range(len(restored))
    table = torch.as_tensor(list(values) if not isinstance(values, Tensor) else values).to(restored.device)
    if len(table) != len(restored):
        raise ValueError(f"values must be as many as probabilities ({len(restored)}), got {len(table)}")
    largest = restored.amax(0) - _TIE_TOLERANCE
    winner = (restored >= largest).to(torch.uint8).argmax(0)
    return Image(table.to(torch.int64)[winner], onto_grid)


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
