"""Box sums over a cubic window by running sums: the cost does not depend on the window."""

import torch
from torch import Tensor


def box_sum(x: Tensor, radius: int) -> Tensor:
    """Sum over the window of `2 radius + 1` voxels a side around each voxel; zero outside.

    Parameters
    ----------
    x
        `(batch, channel, *shape)`, 2-D or 3-D.
    radius
        Voxels on either side; 0 returns `x`.

    Returns
    -------
    Tensor
        As `x`. One running sum and one difference an axis, whatever the radius.
    """
    if radius == 0:
        return x
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        total = x.cumsum(axis)
        # sum over [i - r, i + r] = total[min(i + r, side - 1)] - total[i - r - 1]
        top = min(radius, side)
        upper = total.narrow(axis, top, side - top) if side > top else total.narrow(axis, 0, 0)
        last = total.narrow(axis, side - 1, 1).expand_as(total.narrow(axis, 0, top))
        window = torch.cat([upper, last], axis)
        if side > radius + 1:
            window.narrow(axis, radius + 1, side - radius - 1).sub_(total.narrow(axis, 0, side - radius - 1))
        x = window
    return x
