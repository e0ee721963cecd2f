"""Effect: how the mean shape of cases follows their covariates, by regression of where they lie on a template."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor

from covoxel.atlas.placement import Placement, steady
from covoxel.registration.pyramid import cell_grid
from covoxel.spatial import Grid


@dataclass(frozen=True, eq=False)
class Effect:
    """Coefficients of a shape, a column of the design each; all zero is no effect.

    Parameters
    ----------
    grid
        Grid of the template.
    cells
        Voxels in a cell of the velocities, along each axis.
    velocity_vox
        `(column, n, *nodes)` float32, cells per unit time.
    stretch
        `(column, n, n)` symmetric logarithms of how the template is stretched about its middle: the part of the affine
        maps that is size and shape, and not pose.
    """

    grid: Grid
    cells: tuple[int, ...]
    velocity_vox: Tensor
    stretch: NDArray[np.float64]

    def at(self, row: NDArray[np.float64]) -> Placement:
        """Where the mean case lies on the template, by a row of the design: `x -> stretch exp(v)(x)`."""
        weights = torch.from_numpy(row).to(self.velocity_vox)
        velocity = torch.einsum("k,k...->...", weights, self.velocity_vox)
        return Placement(self.grid, self._stretched(row), velocity, self.cells)

    def size_mm(self, rows: NDArray[np.float64]) -> float:
        """Root mean square over rows `(row, column)` and nodes of the velocity, mm per unit time."""
        moment = torch.from_numpy(rows.T @ rows / len(rows)).to(self.velocity_vox)
        spacing = torch.from_numpy(cell_grid(self.grid, self.cells).spacing_mm).to(self.velocity_vox)
        flat = (self.velocity_vox * spacing.view(-1, *[1] * self.grid.ndim)).flatten(1)
        square = torch.einsum("kv,kl,lv->", flat, moment, flat)
        return math.sqrt(max(0.0, float(square)) / flat.shape[1] * self.grid.ndim)

    def minus(self, other: "Effect") -> "Effect":
        """Difference of two effects on one template."""
        return Effect(self.grid, self.cells, self.velocity_vox - other.velocity_vox, self.stretch - other.stretch)

    def _stretched(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        n = self.grid.ndim
        matrix = np.eye(n + 1)
        matrix[:n, :n] = expm(np.einsum("k,kcd->cd", row, self.stretch))
        matrix[:n, n] = self.grid.centre_ras - matrix[:n, :n] @ self.grid.centre_ras
        return steady(matrix)


@dataclass
class Regression:
    """Sums over cases, of the size of the coefficients whatever their number.

    Parameters
    ----------
    weights
        `(column,)` by id, see `Design.weights`.
    """

    weights: Mapping[str, NDArray[np.float64]]
    _velocity: Tensor | None = None
    _stretch: NDArray[np.float64] | None = None
    _last: Placement | None = field(default=None)

    def add(self, name: str, placement: Placement) -> None:
        """One case.

        Raises
        ------
        ValueError
            If its placement has no velocity.
        """
        if placement.velocity_vox is None:
            raise ValueError(f"the placement of {name} must have a velocity, got an affine one")
        weights = torch.from_numpy(self.weights[name])
        velocity = torch.einsum("k,...->k...", weights, placement.velocity_vox.double())
        stretch = np.einsum("k,cd->kcd", self.weights[name], log_stretch(placement.moving_from_template))
        self._velocity = velocity if self._velocity is None else self._velocity + velocity
        self._stretch = stretch if self._stretch is None else self._stretch + stretch
        self._last = placement

    def effect(self) -> Effect:
        """The coefficients of all cases that were added."""
        if self._last is None or self._velocity is None or self._stretch is None:
            raise ValueError("an effect needs cases, got none")
        return Effect(self._last.grid, self._last.cells, self._velocity.float(), np.round(self._stretch, 10))


def effect_of(placements: Mapping[str, Placement], weights: Mapping[str, NDArray[np.float64]]) -> Effect:
    """Effect of the covariates on where cases lie on a template.

    Parameters
    ----------
    placements
        By id; may read each when it is asked for. Sums run in the order of the weights.
    weights
        Of the cases that take part, see `Design.weights`.
    """
    regression = Regression(weights)
    for name in weights:
        regression.add(name, placements[name])
    return regression.effect()


def log_stretch(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric logarithm `(n, n)` of the right stretch of an affine matrix `(n + 1, n + 1)`: of size, not of pose."""
    linear = matrix[:-1, :-1]
    squares, axes = np.linalg.eigh(linear.T @ linear)
    return np.asarray(axes @ np.diag(0.5 * np.log(squares)) @ axes.T)
