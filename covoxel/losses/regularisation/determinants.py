"""Jacobian determinants for the penalties that read them."""

from torch import Tensor

from covoxel.spatial.field import jacobian_determinant


def determinant_of(field_vox: Tensor) -> Tensor:
    """Determinant of `x + u(x)` by central differences, `(batch, 1, *shape)`; an axis of one voxel does not change."""
    shape = field_vox.shape[2:]
    # A difference needs two voxels.
    doubled = field_vox.expand(-1, -1, *[2 if side == 1 else -1 for side in shape])
    determinant = jacobian_determinant(doubled)[:, None]
    for axis, side in enumerate(shape, start=2):
        determinant = determinant.narrow(axis, 0, side)
    return determinant
