"""Placing: one image brought onto a template, by an affine map or by a velocity that goes on from the last one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.atlas.base import Step, TemplateSettings
from covoxel.atlas.placement import Placement, inside, inverse, steady
from covoxel.registration import MovingBatch, register, takes
from covoxel.registration.alignment import coarse_affine
from covoxel.registration.descent import NodeVelocity, Schedule, Term, descend_velocity
from covoxel.spatial import Grid, Image, Transform, sample
from covoxel.spatial.field import displacement_vox_from_mm
from covoxel.spatial.velocity import log

REGULARISED: dict[str, Any] = {
    "regulariser": "diffusion",
    "momentum": 0.5,
    "update_sigma_vox": (2.0, 2.0, 2.0, 1.0),
    "velocity_sigma_vox": (1.0, 1.0, 1.0, 0.5),
}
"""As the engine svf has them."""

_STEP_VOX, _LATER_STEP_VOX = 0.5, 0.2
"""Longest step: as the engine svf has it, and where a descent goes on that is near its end."""

_RADIUS, _BINS = 2, 32


def place(
    template: Image,
    image: Image,
    before: Placement | None,
    step: Step,
    settings: TemplateSettings,
    options: Mapping[str, Any] | None = None,
    expected: Placement | None = None,
) -> Placement:
    """Where an image lies on a template.

    Parameters
    ----------
    template, image
        Intensities of about 0 to 1, on one device.
    before
        Where it lay on this template so far; None if nothing is known.
    step
        Whether the map is affine, and how far the descent has come.
    settings
        How.
    options
        Of an engine other than svf, such as its model.
    expected
        Whose velocity the image's is likely to be, for svf; only what differs from it is held small.

    Raises
    ------
    ValueError
        If the image could not be brought there.
    """
    if step.is_affine:
        found = _affine(template, image, before, settings)
    elif settings.engine == "svf":
        found = _descended(template, image, before, step, settings, expected)
    else:
        found = _of_engine(template, image, before, settings, options or {})
    alike = turned(image, found, template) if settings.contrast == "many" else image
    return replace(found, similarity=correlation(template, alike, found))


def correlation(template: Image, image: Image, placement: Placement) -> float:
    """Correlation of intensities within the field of view; the image must vary there.

    Raises
    ------
    ValueError
        If the image and the template do not overlap, or the image is constant where they do.
    """
    moved, seen = moved_onto(template.grid, image, placement)
    own, _, _ = standardised(moved, seen)
    other, _, _ = standardised(template.data.to(own), seen)
    return float((own * other * seen).sum() / seen.sum())


def moved_onto(grid: Grid, image: Image, placement: Placement) -> tuple[Tensor, Tensor]:
    """Intensities of an image on the grid of a template, and 1 where it sees a voxel, both `(*grid.shape)` float64."""
    coordinates = placement.transform().moving_coordinates_vox(image.grid, image.data.device)
    seen = inside(coordinates, image.grid)
    return sample(image.data[None, None].float(), coordinates)[0, 0].double(), seen[0, 0].double()


def turned(image: Image, placement: Placement, fixed: Image) -> Image:
    """The image with intensities turned into those of another contrast: the mean of `fixed` for each of 32 levels."""
    moved, seen = moved_onto(fixed.grid, image, placement)
    levels = moved[seen > 0]
    others = fixed.data.double()[seen > 0]
    low, high = float(image.data.min()), float(image.data.max())
    index = ((levels - low) / max(high - low, 1e-9) * (_BINS - 1)).clamp(0, _BINS - 1)
    bins = index.round().long()
    count = torch.bincount(bins, minlength=_BINS).double()
    total = torch.bincount(bins, weights=others, minlength=_BINS)
    known = (count > 0).cpu().numpy()
    centres = low + (high - low) * np.arange(_BINS) / (_BINS - 1)
    curve = (total / count.clamp(min=1)).cpu().numpy()
    turned = np.interp(image.data.double().cpu().numpy(), centres[known], curve[known])
    return Image(torch.tensor(turned, dtype=torch.float32, device=image.data.device), image.grid)


def standardised(data: Tensor, seen: Tensor) -> tuple[Tensor, float, float]:
    """Values of mean 0 and standard deviation 1 over the voxels seen, and what these were."""
    weight = float(seen.sum())
    if weight < 2:
        raise ValueError("it does not overlap with the template")
    mean = float((data * seen).sum()) / weight
    spread = (float(((data - mean).square() * seen).sum()) / weight) ** 0.5
    if not np.isfinite(spread):
        raise ValueError("its registration gave numbers that are not finite")
    if spread < 1e-6:
        raise ValueError("it has one intensity only where it overlaps with the template")
    return (data - mean) / spread, mean, spread


def _affine(template: Image, image: Image, before: Placement | None, settings: TemplateSettings) -> Placement:
    """By the affine engine, which begins where the image is known to lie, or searches."""
    known, laid = _laid(template, image, before)
    (rest,) = coarse_affine(
        template,
        MovingBatch.of([laid], image.data.device),
        freedom=settings.freedom,
        similarity=settings.compared_by,
        search=before is None,
    )
    return Placement(template.grid, _sound(steady(known @ rest.moving_from_fixed)))


def _laid(template: Image, image: Image, before: Placement | None) -> tuple[NDArray[np.float64], Image]:
    """The affine part of where an image is known to lie, and the image laid there by its grid, not resampled."""
    known = np.eye(template.grid.ndim + 1) if before is None else before.moving_from_template
    return known, Image(image.data, Grid(image.grid.shape, inverse(known) @ image.grid.ras_from_voxel))


def _descended(
    template: Image,
    image: Image,
    before: Placement | None,
    step: Step,
    settings: TemplateSettings,
    expected: Placement | None,
) -> Placement:
    """By descent on the velocity; the first iteration runs through all levels, the later ones through the finest."""
    matrix = np.eye(template.grid.ndim + 1) if before is None else before.moving_from_template
    velocity, known = (_velocity(placement, template.data.device) for placement in (before, expected))
    schedule = (
        Schedule(settings.first, step_vox=_STEP_VOX, **REGULARISED)
        if velocity is None
        else Schedule(settings.later, step_vox=_LATER_STEP_VOX, **REGULARISED)
    )
    batch = MovingBatch.of([image], image.data.device)
    terms = [Term.of_intensities(template, batch, settings.compared_by, _RADIUS)]
    with torch.no_grad():
        found = descend_velocity([Transform(template.grid, matrix)], terms, schedule, velocity, known)
    if found is None:
        return Placement(template.grid, matrix)
    values = found.velocity_vox[0].cpu()
    if not bool(values.isfinite().all()):
        raise ValueError("its registration gave numbers that are not finite")
    return Placement(template.grid, matrix, values, found.cells)


def _velocity(placement: Placement | None, device: torch.device) -> NodeVelocity | None:
    if placement is None or placement.velocity_vox is None:
        return None
    return NodeVelocity(placement.velocity_vox[None].to(device), placement.cells)


def _of_engine(
    template: Image, image: Image, before: Placement | None, settings: TemplateSettings, options: Mapping[str, Any]
) -> Placement:
    """By any registration engine, from where the affine rounds have laid the image.

    The velocity is the logarithm of its displacement. A network is given the images as they lie and aligns nothing
    anew, whatever it was trained with: the affine parts stay centred.
    """
    known, laid = _laid(template, image, before)
    given: dict[str, Any] = dict(options)
    if takes(settings.engine, "alignment"):
        given["alignment"] = "none"
    (found,) = register(settings.engine, template, [laid], device=image.data.device, **given)
    matrix = _sound(steady(known @ found.moving_from_fixed))
    if found.displacement_mm is None:
        return Placement(template.grid, matrix)
    displacement_vox = displacement_vox_from_mm(found.displacement_mm[None].cpu(), template.grid)
    return Placement(template.grid, matrix, log(displacement_vox)[0], (1,) * template.grid.ndim)


def _sound(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(matrix).all() or np.linalg.det(matrix) <= 0:
        raise ValueError("its affine registration did not converge")
    return matrix
