"""Placement: where a case lies relative to a template, an affine map after the flow of a velocity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from covoxel.spatial import Grid, Transform


@dataclass(frozen=True, eq=False)
class Placement:
    """The map `x -> moving_from_template exp(v)(x)` from points of the template to points of a case, RAS+ mm.

    Parameters
    ----------
    grid
        Grid of the template.
    moving_from_template
        `(n + 1, n + 1)` matrix in RAS+ mm.
    velocity_vox
        `(n, *nodes.shape)` float32, voxels of `nodes` per unit time; None for an affine placement.
    nodes
        Grid on which the velocity lives, coarser than `grid`; None without a velocity.
    """

    grid: Grid
    moving_from_template: NDArray[np.float64]
    velocity_vox: Tensor | None = None
    nodes: Grid | None = None

    def transform(self) -> Transform:
        """From points of the template (fixed) to points of the case (moving): resamples the case onto the template."""
        raise NotImplementedError

    def inverse(self, onto: Grid) -> Transform:
        """From points of the case, whose grid is `onto` (fixed), to points of the template (moving)."""
        raise NotImplementedError
