"""Volumes of structures at each visit: from labels on its own grid, and from how the template is stretched onto it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.longitudinal.series import inverse_of
from covoxel.metrics.folding import determinants
from covoxel.spatial import Grid, Image, Transform, sample


def jacobian_volumes(probabilities: Tensor, values: Sequence[int], transform: Transform) -> dict[int, float]:
    """Volume of each structure at a visit: the integral of `det J` over its probability in the template.

    Parameters
    ----------
    probabilities
        `(label, *grid.shape)` on the template's grid.
    values
        Value of each label; background (0) is left out.
    transform
        From points of the template to points of the visit.

    Returns
    -------
    dict
        mm³ by label (mm² in 2-D).
    """
    determinant, voxel = determinants(transform).double(), transform.grid.voxel_volume_mm
    pairs = zip(values, probabilities, strict=True)
    return {int(v): float((determinant * p.double()).sum()) * voxel for v, p in pairs if int(v) != 0}


def carried(probabilities: Tensor, transform: Transform, onto: Grid) -> Tensor:
    """Probabilities of the template, `(label, …)`, first background, on a visit's own grid; background beyond.

    Parameters
    ----------
    probabilities
        `(label, *grid.shape)` on the template's grid, that sum to one.
    transform
        From points of the template to points of the visit.
    onto
        Grid of the visit.
    """
    at = inverse_of(transform, onto).moving_coordinates_vox(transform.grid)
    back = sample(probabilities[None, 1:].float(), at, padding="zeros")[0].clamp(0, 1)
    return torch.cat([1 - back.sum(0, keepdim=True).clamp(max=1), back])


def probable_volumes(probabilities: Tensor, values: Sequence[int], grid: Grid) -> dict[int, float]:
    """Volume of each structure from probabilities `(label, *grid.shape)`: a voxel half in a structure counts half."""
    pairs = zip(values, probabilities, strict=True)
    return {int(v): float(p.double().sum()) * grid.voxel_volume_mm for v, p in pairs if int(v) != 0}


def log_jacobian(transforms: tuple[Transform, Transform]) -> Image:
    """Logarithm of how much larger each place of the template is at the second of two visits than at the first.

    Folded places have none and are 0.
    """
    first, last = (determinants(transform) for transform in transforms)
    sound = (first > 0) & (last > 0)
    ratio = torch.where(sound, last, 1.0) / torch.where(sound, first, 1.0)
    return Image(ratio.log(), transforms[0].grid)
