"""Random views of an image: turned, stretched and shifted a little, so that a network sees it several times."""

import numpy as np
import torch
from numpy.typing import NDArray

from covoxel.spatial import Grid

ROTATION_RAD, SCALE, SHIFT_VOX = 0.1, 0.05, 1.0
"""Standard deviations of the rotation about each axis, of the logarithm of the size along each, and of the shift."""


def random_views(grid: Grid, count: int, seed: int) -> NDArray[np.float64]:
    """Affine maps about the middle of `grid` from voxels of a view to its voxels, `(count, n + 1, n + 1)`.

    The first view is the image itself. Rotations are of the world, whatever the voxels; the axes of `grid` are taken
    to be at right angles.

    Raises
    ------
    ValueError
        If `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"views must be at least 1, got {count}")
    n, source = grid.ndim, torch.Generator().manual_seed(seed)
    skew = torch.randn((count, n, n), generator=source, dtype=torch.float64).tril(-1) * ROTATION_RAD
    stretch = torch.randn((count, n), generator=source, dtype=torch.float64) * SCALE
    shift = torch.randn((count, n), generator=source, dtype=torch.float64) * SHIFT_VOX
    linear = torch.linalg.matrix_exp(skew - skew.mT + torch.diag_embed(stretch))
    spacing = torch.tensor(grid.spacing_mm)
    linear = linear * spacing / spacing[:, None]
    centre = (torch.tensor(grid.shape, dtype=torch.float64) - 1) / 2
    matrices = torch.eye(n + 1, dtype=torch.float64).repeat(count, 1, 1)
    matrices[1:, :n, :n] = linear[1:]
    matrices[1:, :n, n] = centre + shift[1:] - linear[1:] @ centre
    return np.asarray(matrices.numpy())
