"""Known perturbations of real images, against which a registration is scored in millimetres."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from covoxel.preprocessing import normalise
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.velocity import exp
from covoxel.testing.synthetic import smooth_field


def rigid(grid: Grid, rng: np.random.Generator, degrees: float, shift_mm: float) -> NDArray[np.float64]:
    """`(4, 4)` RAS+ mm: a turn about a random axis through the middle of `grid`, then a shift in a random direction."""
    axis, direction = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(axis * np.deg2rad(degrees)).as_matrix()
    matrix[:3, 3] = grid.centre_ras - matrix[:3, :3] @ grid.centre_ras + shift_mm * direction
    return matrix


def replaced(image: Image, matrix: NDArray[np.float64]) -> Image:
    """The image put elsewhere by its header alone: what was at x is now at `matrix` x."""
    return Image(image.data, Grid(image.grid.shape, matrix @ image.grid.ras_from_voxel))


def diffeomorphism(grid: Grid, rng: np.random.Generator, *, warp_mm: float, kernel_mm: float) -> Transform:
    """Random smooth warp and a small affine (5 degrees, some 5 mm, 3 % of size), on `grid`.

    Parameters
    ----------
    warp_mm
        Standard deviation of each component of the velocity, whose exponential the warp is.
    kernel_mm
        Standard deviation of the Gaussian that makes the velocity smooth.
    """
    matrix = rigid(grid, rng, 5.0, 0.0)
    matrix[:3, :3] *= np.exp(rng.normal(0, 0.03, 3))
    matrix[:3, 3] = grid.centre_ras - matrix[:3, :3] @ grid.centre_ras + rng.normal(0, 3, 3)
    spacing = grid.spacing_mm[:, None, None, None].astype(np.float32)
    velocity_vox = smooth_field(grid, rng, channels=3, kernel_mm=kernel_mm) * np.float32(warp_mm) / spacing
    return Transform(grid, matrix, displacement_mm_from_vox(exp(torch.from_numpy(velocity_vox)[None]), grid)[0])


def seen_through(image: Image, transform: Transform, rng: np.random.Generator, gamma: float, noise: float) -> Image:
    """The image moved (cubic splines), with another contrast (a power) and Rician noise, normalised to 0 to 1."""
    at = transform.moving_coordinates_vox(image.grid)[0].numpy()
    clean = ndimage.map_coordinates(image.data.numpy(), at, order=3, mode="grid-constant")
    moved = Image(torch.from_numpy(np.clip(clean, 0, 1)), transform.grid)
    return noisy(Image(moved.data**gamma, moved.grid), rng, noise)


def noisy(image: Image, rng: np.random.Generator, noise: float) -> Image:
    """The image with Rician noise, normalised to 0 to 1."""
    real, imaginary = rng.normal(0, noise, (2, *image.grid.shape)).astype(np.float32)
    data = np.hypot(image.data.numpy() + real, imaginary).astype(np.float32)
    return Image(normalise(Image(torch.from_numpy(data), image.grid)), image.grid)


def errors_mm(found: Transform, truth: Transform, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance between where both send the voxels of `mask` (on the grid of `truth`), mm."""
    points = truth.grid.to_ras(np.argwhere(mask))
    return np.asarray(np.linalg.norm(found.map(points) - truth.map(points), axis=1))
