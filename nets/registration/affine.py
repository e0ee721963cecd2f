"""Affine maps between voxels, as matrices and as displacements, on grids of different fineness."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.spatial import voxel_coordinates
from covoxel.spatial.transform import apply_matrix
from nets.registration.parts import full_precision


def displacement(moving_from_fixed_vox: Tensor, shape: Sequence[int]) -> Tensor:
    """Displacement `(batch, n, *shape)` in voxels of an affine map `(batch, n + 1, n + 1)` from voxels to voxels."""
    with full_precision(moving_from_fixed_vox):  # coordinates of voxels have no place in bfloat16
        points = voxel_coordinates(tuple(shape), moving_from_fixed_vox)
        return apply_matrix(moving_from_fixed_vox, points) - points


def inverse(matrix: Tensor) -> Tensor:
    """The way back, `(batch, n + 1, n + 1)`, of a map that does not collapse."""
    with full_precision(matrix):
        back: Tensor = torch.linalg.inv(matrix)
    return back


def homogeneous(linear: Tensor, offset: Tensor) -> Tensor:
    """Matrix `(batch, n + 1, n + 1)` of `x -> linear x + offset`; `(batch, n, n)` and `(batch, n)`."""
    batch, n = offset.shape
    bottom = torch.cat([offset.new_zeros(n), offset.new_ones(1)]).expand(batch, 1, n + 1)
    return torch.cat([torch.cat([linear, offset[:, :, None]], 2), bottom], 1)


def about(matrix: Tensor, centre: Tensor) -> Tensor:
    """The map `x -> M (x - centre) + centre`; `(batch, n + 1, n + 1)` and `(batch or 1, n)`."""
    linear, offset = matrix[:, :-1, :-1], matrix[:, :-1, -1]
    still = centre.expand_as(offset) - torch.einsum("bcd,bd->bc", linear, centre.expand_as(offset))
    return homogeneous(linear, offset + still)


def on_cells(matrix: Tensor, factor: int) -> Tensor:
    """A map between voxels as one between cells of `factor` voxels, whose centres are at `factor i + (factor - 1) / 2`.

    Parameters
    ----------
    matrix
        `(batch, n + 1, n + 1)` voxels to voxels.
    """
    shift = (factor - 1) / 2
    linear, offset = matrix[:, :-1, :-1], matrix[:, :-1, -1]
    return homogeneous(linear, (offset + shift * linear.sum(2) - shift) / factor)


def middle(shape: Sequence[int], like: Tensor) -> Tensor:
    """Centre of a grid, `(1, n)` voxels."""
    return like.new_tensor([[(side - 1) / 2 for side in shape]])
