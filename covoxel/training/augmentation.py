"""Augmentation: random affine and smooth warps of an image with its labels, and noise on its intensities."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from covoxel.spatial import sample, voxel_coordinates
from covoxel.spatial.transform import apply_matrix


@dataclass(frozen=True)
class Augmentation:
    """How much images are changed. All zeros change nothing.

    Parameters
    ----------
    rotation_rad, scale, shift
        Standard deviations of the rotation about each axis, of the logarithm of the size along each, and of the shift
        as a part of each side.
    warp_vox
        Standard deviation, voxels, of the displacements of the control points of the cubic B-spline.
    control_vox
        Distance of the control points.
    noise
        Largest standard deviation of the noise; that of the image is 1.
    gain
        Standard deviation of the logarithm of the contrast, and of the brightness.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rotation_rad: float = 0.1
    scale: float = 0.05
    shift: float = 0.02
    warp_vox: float = 1.0
    control_vox: float = 8.0
    noise: float = 0.1
    gain: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if self.control_vox < 1:
            raise ValueError(f"control_vox must be at least 1, got {self.control_vox}")


@dataclass(frozen=True, eq=False)
class Draw:
    """One random change of an image.

    Parameters
    ----------
    coordinates_vox
        `(1, n, *shape)`, where in the image each voxel comes from.
    contrast, brightness
        Factor and offset of the intensities.
    noise
        `(*shape)`, added to them.
    """

    coordinates_vox: Tensor
    contrast: float
    brightness: float
    noise: Tensor

    def image(self, image: Tensor) -> Tensor:
        """`image` `(*shape)`, warped with its border repeated, of another contrast, and noisy."""
        moved = sample(image[None, None], self.coordinates_vox)[0, 0]
        return moved * self.contrast + self.brightness + self.noise

    def labels(self, labels: Tensor) -> Tensor:
        """`labels` `(label, *shape)`, warped alike; beyond the border they weigh nothing."""
        return sample(labels[None], self.coordinates_vox, padding="zeros")[0]


def draw(shape: tuple[int, ...], how: Augmentation, generator: torch.Generator, device: torch.device | str) -> Draw:
    """A random change of images of `shape`. Draws from `generator`, which is on the CPU whatever the device."""
    coordinates = random_maps(shape, how, generator, device=device)
    gain, offset, level = torch.randn(2, generator=generator).tolist() + torch.rand(1, generator=generator).tolist()
    noise = torch.randn(shape, generator=generator).mul_(how.noise * level).to(device)
    return Draw(coordinates, math.exp(how.gain * gain), how.gain * offset, noise)


def random_maps(
    shape: tuple[int, ...],
    how: Augmentation,
    generator: torch.Generator,
    *,
    count: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Voxel coordinates `(count, n, *shape)`: of each map an affine one about the centre and a random smooth warp."""
    matrices = random_affines(shape, how, generator, count=count).to(device)
    maps = apply_matrix(matrices, voxel_coordinates(shape, matrices))
    return maps.add_(b_spline(shape, how, generator, count=count, device=device))


def random_affines(shape: tuple[int, ...], how: Augmentation, generator: torch.Generator, *, count: int = 1) -> Tensor:
    """Random maps about the centre from voxels to voxels, `(count, n + 1, n + 1)`."""
    n = len(shape)
    skew = torch.randn((count, n, n), generator=generator) * how.rotation_rad
    stretch = torch.diag_embed(torch.randn((count, n), generator=generator) * how.scale)
    linear = torch.linalg.matrix_exp(skew.tril(-1) - skew.tril(-1).mT + stretch)
    sides = torch.tensor(shape, dtype=torch.float32)
    centre = (sides - 1) / 2
    shift = torch.randn((count, n), generator=generator) * how.shift * sides
    matrices = torch.eye(n + 1).repeat(count, 1, 1)
    matrices[:, :n, :n] = linear
    matrices[:, :n, n] = centre + shift - linear @ centre
    return matrices


def b_spline(
    shape: tuple[int, ...],
    how: Augmentation,
    generator: torch.Generator,
    *,
    count: int = 1,
    strength: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Displacements, voxels, `(count, n, *shape)`: cubic B-splines of random control points.

    `strength`, `(count,)`, multiplies `how.warp_vox`. Each axis is one product with a small matrix.
    """
    controls = [math.ceil(side / how.control_vox) + 3 for side in shape]
    field = torch.randn((count, len(shape), *controls), generator=generator) * how.warp_vox
    if strength is not None:
        field = field * strength.view(-1, *[1] * (field.ndim - 1))
    field = field.to(device)
    for axis, side in enumerate(shape, start=2):
        basis = _basis(side, field.shape[axis], how.control_vox).to(device)
        field = (field.movedim(axis, -1) @ basis).movedim(-1, axis)
    return field


def _basis(side: int, controls: int, control_vox: float) -> Tensor:
    """Values of the cubic B-spline of each control point at each voxel, `(controls, side)`; each column sums to one."""
    distance = (torch.arange(side)[None] / control_vox + 1 - torch.arange(controls)[:, None]).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = functional.relu(2 - distance) ** 3 / 6
    return torch.where(distance < 1, near, far)
