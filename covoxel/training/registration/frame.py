"""Frame: the grid that all training images share, and how an image is laid on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.preprocessing import canonical, canonical_grid
from covoxel.preprocessing.spacing import smoothed
from covoxel.spatial import Grid, Image, Transform, sample
from covoxel.training.registration.cases import TrainingCase

MULTIPLE = 4
"""Sides are rounded up to multiples of it: convolutions on a CPU are then quicker."""
MOST_VOXELS = 2**25
"""A frame of more is refused; 2^25 is 320 a side."""
_FWHM = math.sqrt(8 * math.log(2))


@dataclass(frozen=True)
class Frame:
    """Sides and spacing of the grid that all training images share.

    Parameters
    ----------
    shape
        Voxels along each axis, closest to R, A (and S).
    spacing_mm
        Spacing along each axis.
    centre_ras
        World position of the frame's middle, where images are brought to one reference by affine transforms; by
        default the origin. Images that are laid centre on centre have a world each.

    Raises
    ------
    ValueError
        If a side or spacing is not positive, or there are more than `MOST_VOXELS`.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    centre_ras: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.shape)
        if n not in (2, 3) or len(self.spacing_mm) != n or len(self.centre_ras) not in (0, n):
            raise ValueError(f"shape and spacing_mm must be 2 or 3 numbers each, got {self.shape}, {self.spacing_mm}")
        if min(self.shape) < 1 or not all(math.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"sides and spacing must be positive, got {self.shape} and {self.spacing_mm}")
        if math.prod(self.shape) > MOST_VOXELS:
            raise ValueError(
                f"the frame of all training images has {' x '.join(map(str, self.shape))} voxels, more than "
                f"{MOST_VOXELS}: name a larger spacing_mm than {list(self.spacing_mm)}, or crop the images"
            )

    @property
    def world(self) -> Grid:
        """The frame along the axes of the world."""
        grid = Grid.from_spacing(self.shape, self.spacing_mm)
        matrix = grid.ras_from_voxel.copy()
        matrix[:-1, -1] += self.centre_ras or 0.0
        return Grid(self.shape, matrix)

    def on(self, grid: Grid) -> Grid:
        """The frame along the axes of `grid`, centre on centre.

        Along an axis of the same spacing, centres may lie half a voxel apart, so that voxels fall on voxels.
        """
        ratio = np.asarray(self.spacing_mm) / grid.spacing_mm
        ratio = np.where(np.abs(ratio - 1) < 1e-3, 1.0, ratio)
        first = (np.asarray(grid.shape) - 1) / 2 - ratio * (np.asarray(self.shape) - 1) / 2
        first = np.where(ratio == 1, np.floor(first + 0.5), first)
        matrix = grid.ras_from_voxel.copy()
        matrix[:-1, -1] = grid.to_ras(first)
        matrix[:-1, :-1] *= ratio
        return Grid(self.shape, matrix)


def frame_of(images: Sequence[Image], spacing_mm: Sequence[float] | float | None = None) -> Frame:
    """A frame of the images' median size, sides rounded up to multiples of `MULTIPLE`.

    Larger images are cut on it, smaller ones continued: in use a network sees each fixed image on its own grid, and
    would not know borders where the images of its training had none.

    Parameters
    ----------
    images
        At least one, all 2-D or all 3-D.
    spacing_mm
        Along R, A (and S), or one for all; by default the median of the images'.

    Raises
    ------
    ValueError
        If there is no image, dimensions differ, or the frame has too many voxels.
    """
    grids = [canonical_grid(image.grid) for image in images]
    if len({grid.ndim for grid in grids}) != 1:
        raise ValueError(f"a frame needs images, all 2-D or all 3-D, got {sorted({grid.ndim for grid in grids})}")
    n = grids[0].ndim
    median = np.median([grid.spacing_mm for grid in grids], axis=0)
    spacing = median if spacing_mm is None else np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (n,))
    spacing = np.round(spacing, 4)
    sides = np.median([np.asarray(grid.shape) * grid.spacing_mm for grid in grids], axis=0) / spacing
    shape = tuple(MULTIPLE * math.ceil(round(side, 2) / MULTIPLE) for side in sides.tolist())
    return Frame(shape, tuple(spacing.tolist()))


def prepare(
    id: str,
    image: Image,
    frame: Frame,
    *,
    labels: Image | None = None,
    subject: str = "",
    moving_from_fixed: NDArray[np.float64] | None = None,
) -> TrainingCase:
    """Lay an image on the frame.

    Parameters
    ----------
    id, subject
        Of the case.
    image
        Intensities of about 0 to 1, on any grid. What lies outside of it is continued from its border, and not in
        the mask.
    frame
        Where to.
    labels
        Label map on the grid of `image`: places in the cohort's list of labels.
    moving_from_fixed
        `(n + 1, n + 1)` RAS+ mm, from points of the reference, whose world is that of the frame, to points of the
        image; for alignment "affine". By default the image is laid with its centre on that of the frame and its own
        axes along those of the frame; without interpolation, if its spacing is the frame's.

    Raises
    ------
    ValueError
        If the image has not the dimensions of the frame, or the labels not the grid of the image.
    """
    if image.grid.ndim != len(frame.shape):
        raise ValueError(f"case {id}: a {image.grid.ndim}-D image has no place on the frame {frame.shape}")
    if labels is not None and not labels.grid.isclose(image.grid):
        raise ValueError(f"case {id}: labels must lie on the grid of the image, {image.grid}, got {labels.grid}")
    upright = canonical(image)
    coordinates = _coordinates(upright.grid, frame, moving_from_fixed)
    values = sample(_without_aliasing(upright, frame)[None, None], coordinates)[0, 0]
    sides = torch.tensor(upright.grid.shape).view(-1, *[1] * upright.grid.ndim)
    mask = ((coordinates[0] >= -0.501) & (coordinates[0] <= sides - 0.499)).all(0)
    if not mask.any():
        raise ValueError(f"case {id}: no voxel of the image lies on the frame; is moving_from_fixed of this image?")
    places = None if labels is None else _labels(canonical(labels).data, coordinates)
    return TrainingCase(id, values, mask, places, subject)


def _coordinates(grid: Grid, frame: Frame, moving_from_fixed: NDArray[np.float64] | None) -> Tensor:
    """Voxel of the image at each voxel of the frame, `(1, n, *shape)`."""
    if moving_from_fixed is not None:
        return Transform(frame.world, moving_from_fixed).moving_coordinates_vox(grid)
    coordinates = Transform.identity(frame.on(grid)).moving_coordinates_vox(grid)
    nearest = coordinates.round()
    return torch.where((coordinates - nearest).abs() < 1e-3, nearest, coordinates)


def _without_aliasing(image: Image, frame: Frame) -> Tensor:
    """Voxels of the image, smoothed where those of the frame are clearly larger."""
    ratio = np.asarray(frame.spacing_mm) / image.grid.spacing_mm
    sigma_vox = np.where(ratio > 1.1, np.sqrt(np.maximum(ratio**2 - 1, 0)) / _FWHM, 0.0)
    return smoothed(image.data.float(), sigma_vox)


def _labels(places: Tensor, coordinates: Tensor) -> Tensor:
    """The label whose interpolated indicator is largest; background beyond the border."""
    result = torch.zeros(coordinates.shape[2:], dtype=torch.int64)
    values = [value for value in torch.unique(places).tolist() if value]
    shares = [sample((places == value).float()[None, None], coordinates, padding="zeros")[0, 0] for value in values]
    best = 1 - sum(shares, torch.zeros(()))
    for value, share in zip(values, shares, strict=True):
        result = torch.where(share > best, value, result)
        best = torch.maximum(share, best)
    return result
