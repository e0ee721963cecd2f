"""Whether two label maps say the same: labels that drove a registration cannot score it."""

import torch

from covoxel.preprocessing import canonical
from covoxel.spatial import Image

_TOLERANCE = 0.05
"""Part of a voxel by which grids of one image may differ in their headers."""


def same_labels(first: Image, second: Image) -> bool:
    """Whether two label maps have the same voxels at the same places, in whatever order they are stored."""
    first, second = canonical(first), canonical(second)
    if not first.grid.isclose(second.grid, _TOLERANCE * float(first.grid.spacing_mm.min())):
        return False
    return torch.equal(first.data, second.data)
