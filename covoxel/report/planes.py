"""Which slices of a case are drawn, and how they lie on the page: nearest-RAS axes, radiological convention."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covoxel.spatial import Grid

Array = NDArray[Any]

MARGIN_MM = 12.0
NAMES = ("Sagittal", "Coronal", "Axial")


@dataclass(frozen=True)
class Frame:
    """How an array in the order of a grid becomes one whose axes run nearest to right, anterior (and superior)."""

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    spacing_mm: tuple[float, ...]

    @classmethod
    def of(cls, grid: Grid) -> "Frame":
        """Frame of `grid`: a permutation and flips, so no value changes. An oblique grid keeps its own planes."""
        n = grid.ndim
        cosines = grid.ras_from_voxel[:n, :n] / grid.spacing_mm
        left, axes = list(range(n)), [0] * n
        # The best aligned axis of the world chooses first, so that no voxel axis is chosen twice.
        for world in np.argsort(-np.abs(cosines).max(1), kind="stable"):
            axes[world] = max(left, key=lambda axis: abs(cosines[world, axis]))
            left.remove(axes[world])
        return cls(
            tuple(axes),
            tuple(bool(cosines[world, axis] < 0) for world, axis in enumerate(axes)),
            tuple(float(grid.spacing_mm[axis]) for axis in axes),
        )

    def view(self, array: Array) -> Array:
        """`array` `(*shape)` seen in this frame, without a copy."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def grid(self, grid: Grid) -> Grid:
        """`grid` seen in this frame: the same voxels, the same world."""
        n = grid.ndim
        matrix = np.eye(n + 1)
        corner = [0.0] * n
        for world, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            matrix[:n, world] = grid.ras_from_voxel[:n, axis] * (-1 if flip else 1)
            corner[axis] = grid.shape[axis] - 1 if flip else 0
        matrix[:n, n] = grid.to_ras(corner)
        return Grid(tuple(grid.shape[axis] for axis in self.axes), matrix)


@dataclass(frozen=True)
class Plane:
    """One slice of a volume in nearest-RAS order, and the part of it that is drawn.

    Parameters
    ----------
    name
        "Sagittal", "Coronal" or "Axial".
    axis
        The axis that is cut, None for a 2-D image.
    index
        Where it is cut.
    window
        Range of voxels drawn, one slice per axis of the volume.
    spacing_mm
        Of the volume.
    """

    name: str
    axis: int | None
    index: int
    window: tuple[slice, ...]
    spacing_mm: tuple[float, ...]

    @property
    def in_plane(self) -> tuple[int, int]:
        """Axes of the volume along the columns and the rows of the picture."""
        across, down = [axis for axis in range(len(self.window)) if axis != self.axis]
        return across, down

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of what is drawn."""
        width, height = ((self.window[a].stop - self.window[a].start) * self.spacing_mm[a] for a in self.in_plane)
        return width, height

    @property
    def sides(self) -> tuple[str, str]:
        """Letters at the left and right edge of the picture."""
        return ("A", "P") if self.axis == 0 else ("R", "L")

    def cut(self, volume: Array) -> Array:
        """The slice as rows and columns: up is superior (or anterior), left is the patient's right (or anterior)."""
        at = tuple(self.index if axis == self.axis else window for axis, window in enumerate(self.window))
        return self.turn(volume[at])

    @staticmethod
    def turn(piece: Array) -> Array:
        """Rows and columns of a 2-D piece whose axes are those of `in_plane`."""
        return piece.T[::-1, ::-1]


def choose_planes(fixed: Array, label_map: Array | None, spacing_mm: tuple[float, ...]) -> tuple[Plane, ...]:
    """Slices through the middle of the labels, or of the head where there are none, cropped to what matters.

    Parameters
    ----------
    fixed
        `(*shape)` in nearest-RAS order, 2-D or 3-D.
    label_map
        Integers of the same shape, or None.
    spacing_mm
        Along each axis.

    Returns
    -------
    tuple of Plane
        Sagittal, coronal and axial; one plane for a 2-D image. An axis is cut where most labels show most of
        themselves: the largest sum over labels of the square root of the share of its largest area.
    """
    seen = fixed if label_map is None else label_map
    step = max(1, round((seen.size / 2_000_000) ** (1 / seen.ndim)))
    coarse = seen[(slice(None, None, step),) * seen.ndim]
    where = np.nonzero(coarse if label_map is not None else _foreground(coarse))
    if not len(where[0]):
        where = tuple(np.asarray([0, side - 1]) for side in coarse.shape)
    values = coarse[where] if label_map is not None else np.ones(len(where[0]), dtype=np.int64)
    window = tuple(
        _range(axis_where * step, side, step, mm)
        for axis_where, side, mm in zip(where, seen.shape, spacing_mm, strict=True)
    )
    if seen.ndim == 2:
        return (Plane("Axial", None, 0, window, spacing_mm),)
    at = [min(_best_slice(where[axis], values) * step, seen.shape[axis] - 1) for axis in range(3)]
    return tuple(Plane(NAMES[axis], axis, at[axis], window, spacing_mm) for axis in range(3))


def _foreground(image: Array) -> Array:
    """Voxels well above the darkest value; a constant image has none."""
    finite = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = np.percentile(finite, (1, 99))
    return np.asarray(finite > low + 0.1 * (high - low))


def _range(where: Array, side: int, step: int, spacing_mm: float) -> slice:
    first, last = int(where.min()), int(where.max()) + step
    margin = round(max(MARGIN_MM, 0.2 * (last - first) * spacing_mm) / spacing_mm)
    return slice(max(first - margin, 0), min(last + margin, side))


def _best_slice(where: Array, values: Array) -> int:
    labels, index = np.unique(values, return_inverse=True)
    sides = int(where.max()) + 1
    areas = np.bincount(where * len(labels) + index.ravel(), minlength=sides * len(labels)).reshape(sides, len(labels))
    score = np.sqrt(areas / areas.max(0)).sum(1)
    best = np.flatnonzero(score >= 0.97 * score.max())
    return int(best[np.argmin(np.abs(best - where.mean()))])
