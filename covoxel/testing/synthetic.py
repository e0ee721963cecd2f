"""Synthetic subjects: one anatomy seen through random warps, poses, contrasts, bias fields and noise, truth known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from covoxel.spatial import Grid, Image, Transform, resample
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.velocity import exp

Float = NDArray[np.floating]

_VISIBLE = 0.02
_ROOM_MM = 18.0  # beyond the head of the anatomy, for subjects that are larger

# Ways in which scanners store the same brain: which world axis each array axis follows, and its sign.
ORIENTATIONS: tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...] = (
    ((0, 1, 2), (1, 1, 1)),  # RAS
    ((0, 1, 2), (-1, 1, 1)),  # LAS
    ((0, 1, 2), (-1, -1, 1)),  # LPS
    ((0, 2, 1), (-1, -1, 1)),  # LIA
    ((1, 2, 0), (-1, -1, 1)),  # PIR
)


@dataclass(frozen=True)
class Anatomy:
    """What all subjects are drawn from.

    Parameters
    ----------
    intensity
        0 outside the head, brightest tissue near 1.
    probabilities
        For each label value the probability of that structure, on the grid of `intensity`.
    """

    intensity: Image
    probabilities: dict[int, Image]

    def seen_at(self, spacing_mm: float) -> "Anatomy":
        """The anatomy averaged as voxels of `spacing_mm` would, so that sampling it there does not alias."""
        sigma_vox = np.sqrt(np.maximum(0, (0.35 * spacing_mm / self.intensity.grid.spacing_mm) ** 2 - 0.35**2))
        probabilities = {value: _smoothed(image, sigma_vox) for value, image in self.probabilities.items()}
        return Anatomy(_smoothed(self.intensity, sigma_vox), probabilities)

    def box_ras(self, margin_mm: float) -> tuple[Float, Float]:
        """Lowest and highest corner, RAS+ mm, of what is not background, `margin_mm` wider on every side."""
        start, stop = _visible_box(self.intensity)
        ends = np.stack(np.meshgrid(*zip(start, stop - 1, strict=True), indexing="ij"), -1).reshape(-1, len(start))
        corners = self.intensity.grid.to_ras(ends)
        return corners.min(0) - margin_mm, corners.max(0) + margin_mm


def _visible_box(image: Image) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel, and first one after the last, along each axis, of what is not background."""
    visible = image.data > _VISIBLE
    sides = [visible.movedim(axis, 0).flatten(1).any(1).nonzero()[:, 0] for axis in range(visible.ndim)]
    return np.array([int(side[0]) for side in sides]), np.array([int(side[-1]) + 1 for side in sides])


def _smoothed(image: Image, sigma_vox: Float) -> Image:
    data = ndimage.gaussian_filter(image.data.numpy(), sigma_vox, mode="constant", truncate=3.0)
    return Image(torch.from_numpy(data), image.grid)


@dataclass(frozen=True)
class Variability:
    """How much subjects differ.

    Parameters
    ----------
    warp_mm, warp_kernel_mm
        Standard deviation of the velocity's components, and of the Gaussian that makes it smooth.
    scale
        Standard deviation of the logarithm of the size along each axis.
    rotation_rad, offset_mm
        Largest rotation about each axis and largest offset along it: of the head in the scanner, and of the
        scanner's slices (the header), drawn apart.
    bias
        Standard deviation of the logarithm of the bias field, whose kernel is 40 mm.
    noise
        Standard deviation of the (Rician) noise; brightest tissue is 1.
    gamma
        Largest logarithm of the exponent that changes contrast.
    """

    warp_mm: float = 3.0
    warp_kernel_mm: float = 20.0
    scale: float = 0.04
    rotation_rad: float = 0.15
    offset_mm: float = 8.0
    bias: float = 0.1
    noise: float = 0.025
    gamma: float = 0.35


def draw_subject(
    anatomy: Anatomy,
    rng: np.random.Generator,
    *,
    spacing_mm: float = 2.0,
    margin_mm: float = 6.0,
    variability: Variability | None = None,
) -> Transform:
    """Random subject: the map from points of its scan to points of the anatomy, on the scan's own grid.

    The warp is the exponential of a smooth Gaussian velocity, so it is smooth and has a smooth inverse; then come
    size and pose. The grid is oblique, in one of five orientations, and reaches `margin_mm` beyond the head.
    """
    v = variability or Variability()
    low, high = anatomy.box_ras(_ROOM_MM)
    centre = (low + high) / 2
    size = np.diag([*np.exp(rng.normal(0, v.scale, 3)), 1.0])
    head = _rotation(rng.uniform(-v.rotation_rad, v.rotation_rad, 3))
    place = rng.uniform(-v.offset_mm, v.offset_mm, 3) + centre
    anatomy_from_scan = _shift(centre) @ size @ head @ _shift(-place)
    slices = _rotation(rng.uniform(-v.rotation_rad, v.rotation_rad, 3) / 2)
    sides = tuple(int(n) for n in np.ceil((high - low) / spacing_mm))
    grid = _scan_grid(sides, spacing_mm, slices, place, ORIENTATIONS[int(rng.integers(len(ORIENTATIONS)))])
    velocity_vox = smooth_field(grid, rng, channels=3, kernel_mm=v.warp_kernel_mm) * np.float32(v.warp_mm / spacing_mm)
    displacement_vox = exp(torch.from_numpy(velocity_vox)[None])
    whole = Transform(grid, anatomy_from_scan, displacement_mm_from_vox(displacement_vox, grid)[0])
    return _cropped(whole, anatomy, int(np.ceil(margin_mm / spacing_mm)))


def _cropped(anatomy_from_scan: Transform, anatomy: Anatomy, margin_vox: int) -> Transform:
    """The same map on the part of its grid that shows the head, `margin_vox` voxels more on every side."""
    grid, displacement_mm = anatomy_from_scan.grid, anatomy_from_scan.displacement_mm
    assert displacement_mm is not None
    first, after = _visible_box(resample(anatomy.intensity, grid, anatomy_from_scan))
    start, stop = np.maximum(first - margin_vox, 0), np.minimum(after + margin_vox, grid.shape)
    part = grid.cropped(start, tuple(int(n) for n in stop - start))
    inside = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return Transform(part, anatomy_from_scan.moving_from_fixed, displacement_mm[(slice(None), *inside)].contiguous())


def _scan_grid(
    sides: tuple[int, ...],
    spacing_mm: float,
    rotation: Float,
    centre: Float,
    orientation: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> Grid:
    """Grid of a scan around `centre`: rotated slices, stored in one of the orientations."""
    axes, signs = orientation
    matrix = np.eye(4)
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[:3, axis] = rotation[:3, world] * sign * spacing_mm
    shape = tuple(sides[world] for world in axes)
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, np.round(matrix, 9))


def smooth_field(grid: Grid, rng: np.random.Generator, *, channels: int, kernel_mm: float) -> NDArray[np.float32]:
    """Gaussian random field of variance 1, `(channels, *grid.shape)`, made smooth by a Gaussian of `kernel_mm`.

    White noise is drawn and smoothed on a grid three times finer than the kernel, then interpolated by cubic
    splines.
    """
    step_mm = max(kernel_mm / 3, float(grid.spacing_mm.max()))
    sides = np.asarray(grid.shape) * grid.spacing_mm
    coarse = tuple(int(n) + 1 for n in np.ceil(sides / step_mm))
    sigma = kernel_mm / step_mm
    field = np.empty((channels, *grid.shape), dtype=np.float32)
    at = [np.linspace(0, n - 1, side) for n, side in zip(coarse, grid.shape, strict=True)]
    for channel in range(channels):
        noise = ndimage.gaussian_filter(rng.standard_normal(coarse), sigma, mode="wrap")
        noise *= (2 * np.sqrt(np.pi) * sigma) ** (len(coarse) / 2)  # variance after the Gaussian is 1 again
        field[channel] = _interpolated(noise, at)
    return field


def _interpolated(coarse: Float, at: Sequence[Float]) -> Float:
    """Cubic B-spline through `coarse` at the product of the positions `at`, one axis after the other."""
    values = coarse
    for axis, positions in enumerate(at):
        eye = np.eye(values.shape[axis])
        columns = [ndimage.map_coordinates(row, positions[None], order=3, mode="mirror") for row in eye]
        values = np.moveaxis(np.tensordot(np.stack(columns, 1), values, (1, axis)), 0, axis)
    return values


def render(
    anatomy: Anatomy,
    anatomy_from_scan: Transform,
    rng: np.random.Generator,
    *,
    variability: Variability | None = None,
) -> tuple[Image, Image]:
    """Scan of the subject, and its true label map.

    Parameters
    ----------
    anatomy
        Averaged for the scan's spacing, see `Anatomy.seen_at`.
    anatomy_from_scan
        See `draw_subject`.

    Returns
    -------
    image, label_map
        Whole-number intensities as a scanner stores them, at an arbitrary scale; and the most probable structure of
        each voxel, 0 where none is.
    """
    v = variability or Variability()
    grid = anatomy_from_scan.grid
    clean = resample(anatomy.intensity, grid, anatomy_from_scan).data.numpy().astype(np.float64)
    signal = clean ** np.exp(rng.uniform(-v.gamma, v.gamma))
    signal *= np.exp(v.bias * smooth_field(grid, rng, channels=1, kernel_mm=40.0)[0])
    noisy = np.hypot(signal + rng.normal(0, v.noise, grid.shape), rng.normal(0, v.noise, grid.shape))
    stored = np.round(noisy * np.exp(rng.uniform(np.log(100), np.log(4000)))).clip(0, 32767).astype(np.float32)
    return Image(torch.from_numpy(stored), grid), true_labels(anatomy, anatomy_from_scan)


def true_labels(anatomy: Anatomy, anatomy_from_scan: Transform) -> Image:
    """Most probable structure of each voxel of a scan, int64; 0 where that is none of them."""
    grid = anatomy_from_scan.grid
    values = [0, *sorted(anatomy.probabilities)]
    maps = [resample(anatomy.probabilities[value], grid, anatomy_from_scan).data for value in values[1:]]
    stacked = torch.stack([1 - sum(maps, torch.zeros(grid.shape)), *maps])
    return Image(torch.tensor(values)[stacked.argmax(0)], grid)


@dataclass(frozen=True)
class LocalChange:
    """A ball that grew or shrank: its volume changed by a known factor, evenly, and nothing beyond `reach_mm` moved.

    Parameters
    ----------
    centre_ras
        Centre of the ball, `(n,)` mm, in the subject's space.
    radius_mm
        Radius of the ball at the first visit.
    reach_mm
        Distance from the centre beyond which nothing moves.
    factor
        Volume of the ball now, as a multiple of what it was; the Jacobian determinant inside.

    Raises
    ------
    ValueError
        If the change is so large that space would fold between the ball and `reach_mm`.
    """

    centre_ras: tuple[float, ...]
    radius_mm: float
    reach_mm: float
    factor: float

    def __post_init__(self) -> None:
        if self.factor <= 0 or not 0 < self.radius_now_mm < self.reach_mm:
            raise ValueError(f"factor must be positive and leave the ball within reach_mm {self.reach_mm}, got {self}")
        radii = np.linspace(0, self.reach_mm, 1001)
        if (np.diff(self._radius_then(radii)) <= 0).any():
            raise ValueError(f"factor must be so near 1 that space does not fold before reach_mm, got {self}")

    @property
    def radius_now_mm(self) -> float:
        """Radius of the ball now."""
        return float(self.radius_mm * self.factor ** (1 / len(self.centre_ras)))

    def then_from_now(self, points_ras: ArrayLike) -> Float:
        """Where points `(m, n)` of the subject now, RAS+ mm, were at the first visit."""
        away = np.asarray(points_ras, dtype=np.float64) - self.centre_ras
        radius = np.linalg.norm(away, axis=1, keepdims=True)
        stretch: Float = np.divide(self._radius_then(radius), radius, out=np.ones_like(radius), where=radius > 0)
        return np.asarray(self.centre_ras) + away * stretch

    def _radius_then(self, radius: Float) -> Float:
        """Inside the ball the radius is scaled; from there the shift fades to 0 at `reach_mm` by a smooth step."""
        t = np.clip((radius - self.radius_now_mm) / (self.reach_mm - self.radius_now_mm), 0, 1)
        fade = 1 - t**3 * (10 - 15 * t + 6 * t**2)
        scaling: Float = 1 + (self.factor ** (-1 / len(self.centre_ras)) - 1) * fade
        return radius * scaling


def draw_visit(
    anatomy_from_subject: Transform,
    changes: Sequence[LocalChange],
    rng: np.random.Generator,
    *,
    rotation_rad: float = 0.08,
    offset_mm: float = 5.0,
) -> tuple[Transform, Float]:
    """A later scan of a subject: changed in known places, and lying differently in the scanner.

    Parameters
    ----------
    anatomy_from_subject
        The subject at the first visit, see `draw_subject`; its world is the subject's space.
    changes
        What changed since, in the subject's space.

    Returns
    -------
    anatomy_from_scan, subject_from_scan
        The map from this scan's points to the anatomy, on a grid of the same shape; and the `(4, 4)` rigid matrix
        from this scan's world to the subject's space.
    """
    grid = anatomy_from_subject.grid
    centre = grid.centre_ras
    turn = _rotation(rng.uniform(-rotation_rad, rotation_rad, 3))
    subject_from_scan = _shift(centre) @ turn @ _shift(-centre - rng.uniform(-offset_mm, offset_mm, 3))
    scan = Grid(grid.shape, _shift(rng.uniform(-2, 2, 3)) @ np.linalg.inv(subject_from_scan) @ grid.ras_from_voxel)
    points = scan.to_ras(np.stack(np.meshgrid(*map(np.arange, scan.shape), indexing="ij"), -1).reshape(-1, 3))
    then = _apply(subject_from_scan, points)
    for change in changes:
        then = change.then_from_now(then)
    matrix = anatomy_from_subject.moving_from_fixed @ subject_from_scan
    total = _apply(np.linalg.inv(matrix), anatomy_from_subject.map(then)) - points
    displacement_mm = torch.from_numpy(total.T.reshape(3, *scan.shape).astype(np.float32))
    return Transform(scan, matrix, displacement_mm), subject_from_scan


def find_point(transform: Transform, moving_ras: ArrayLike, *, iterations: int = 50) -> Float:
    """Fixed point, `(3,)` RAS+ mm, that `transform` sends to `moving_ras`, by fixed-point iteration."""
    target = _apply(np.linalg.inv(transform.moving_from_fixed), np.asarray(moving_ras, dtype=np.float64)[None])
    point = target
    back = np.linalg.inv(transform.moving_from_fixed)
    for _ in range(iterations):
        point = point + target - _apply(back, transform.map(point))
    return np.asarray(point[0])


def _rotation(angles_rad: Float) -> Float:
    """`(4, 4)` rotation about the three axes of the world, one after the other."""
    matrix = np.eye(4)
    for axis, angle in enumerate(angles_rad):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(4)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


def _shift(offset: ArrayLike) -> Float:
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def _apply(matrix: Float, points: Float) -> Float:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])
