"""Brightness: how the intensities of cases on their template follow their covariates, at low resolution."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.atlas.place import moved_onto, standardised
from covoxel.atlas.placement import Placement
from covoxel.registration.pyramid import cell_factors
from covoxel.spatial import Image
from covoxel.spatial.smoothing import cell_means, gaussian, refine

CELL_VOX = 4
_SURE = 2.0
"""A coefficient is left out unless it is so many times its standard error; larger ones lose little."""


@dataclass(frozen=True, eq=False)
class Brightness:
    """Coefficients of intensities, a column of the design each.

    Parameters
    ----------
    cells
        Voxels in a cell along each axis.
    values
        `(column, *cells)` float32, intensities of the template.
    """

    cells: tuple[int, ...]
    values: Tensor

    def at(self, row: NDArray[np.float64], shape: tuple[int, ...]) -> Tensor:
        """What is added to the template, `(*shape)`, by a row of the design."""
        weights = torch.from_numpy(row).to(self.values)
        coarse = torch.einsum("k,k...->...", weights, self.values)
        return refine(coarse[None, None], self.cells, shape)[0, 0]


@dataclass
class BrightnessRegression:
    """Sums over cases, of the size of the coefficients whatever their number.

    Edges belong to shape: intensities are averaged over cells before they are compared, and a coefficient that may be
    chance (bias fields, noise) is shrunk towards zero.

    Parameters
    ----------
    template
        On which the cases lie.
    weights
        `(column,)` by id, see `Design.weights`.
    """

    template: Image
    weights: Mapping[str, NDArray[np.float64]]
    _sum: Tensor | None = None
    _square: Tensor | None = None
    _seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        data = self.template.data.double()
        self._whole, _, self._spread = standardised(data, torch.ones_like(data))
        spacing = self.template.grid.spacing_mm
        self._cells = cell_factors(self.template.grid, CELL_VOX * float(spacing.min()))

    def add(self, name: str, image: Image, placement: Placement) -> None:
        """One case."""
        moved, seen = moved_onto(self.template.grid, image, placement)
        values = standardised(moved, seen)[0]
        residual = gaussian(cell_means(((values - self._whole) * seen)[None, None], self._cells), [1.0] * moved.ndim)[0]
        weighted = torch.einsum("k,c...->kc...", torch.from_numpy(self.weights[name]).to(residual), residual)[:, 0]
        self._sum = weighted if self._sum is None else self._sum + weighted
        self._square = residual.square() if self._square is None else self._square + residual.square()
        self._seen.append(name)

    def brightness(self) -> Brightness:
        """The coefficients of all cases that were added."""
        if self._sum is None or self._square is None:
            raise ValueError("a brightness needs cases, got none")
        weights = np.stack([self.weights[name] for name in self._seen])
        free = max(1, len(self._seen) - weights.shape[1] - 1)
        lengths = torch.from_numpy((weights**2).sum(0)).to(self._sum).view(-1, *[1] * (self._sum.ndim - 1))
        error = self._square / free * lengths
        kept = (1 - _SURE**2 * error / self._sum.square().clamp(min=1e-20)).clamp(min=0)
        return Brightness(self._cells, (self._sum * kept * self._spread).float())
