"""Means: of shapes and of intensities over many cases, one of which is held at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from covoxel.atlas.base import Iteration, Step, TemplateSettings
from covoxel.atlas.middle import mid_space
from covoxel.atlas.place import moved_onto, standardised, turned
from covoxel.atlas.placement import Placement
from covoxel.metrics import digital_folding, folding
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.smoothing import gaussian

_CLEAR = 2.0
"""Beyond so many standard deviations of its case an intensity counts less (Huber's weights)."""


@dataclass(frozen=True, eq=False)
class Mean:
    """What a step makes.

    Parameters
    ----------
    image
        The template.
    shape
        From points of the new template to points of the one onto which the cases were brought, so that the mean
        placement is the identity; `placement.after(shape)` of each case.
    facts
        The step's row of the history.
    """

    image: Image
    shape: Placement
    facts: Iteration


def mean_of(
    names: Sequence[str],
    images: Mapping[str, Image],
    placements: Mapping[str, Placement],
    fixed: Image,
    step: Step,
    settings: TemplateSettings,
) -> Mean:
    """The next template of images that were brought onto `fixed`.

    Parameters
    ----------
    names
        Ids of the images that take part, in an order that depends on their content alone: sums run in it.
    images, placements
        By id; each may be read when it is asked for.
    fixed
        The template, or provisional reference, onto which the images were brought.
    step, settings
        Which step of what this is.
    """
    if step.is_affine:
        shape = _affine_shape(names, images, placements, None if step.number == 0 else fixed.grid)
    else:
        shape = _mean_velocity(names, placements, fixed.grid)
    tally = _Tally(fixed if step.number else None, fixed, shape, settings)
    for name in names:
        tally.add(images[name], placements[name])
    image, change = tally.template()
    facts = Iteration(
        number=step.number,
        kind="affine" if step.is_affine else "deform",
        cases=len(names),
        similarity=float(np.mean([placements[name].similarity for name in names])),
        displacement_mm=(tally.square_mm / len(names)) ** 0.5,
        drift_mm=_length_mm(shape.transform()) if not step.is_affine else _moved_mm(shape),
        ndv_percent=tally.ndv_percent,
        change=change,
    )
    return Mean(image, shape, facts)


def astray(similarities: Mapping[str, float]) -> dict[str, str]:
    """Why cases should take no part, a sentence each: those far less like the template than the others are.

    Far is five standard deviations, robustly estimated, and 0.15 at least. Three cases are too few to tell.
    """
    if len(similarities) < 4:
        return {}
    values = np.asarray(list(similarities.values()))
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    least = middle - max(0.15, 5 * spread)
    return {
        name: f"its registration to the template did not converge: its correlation with it is {value:.2f}, "
        f"that of the others about {middle:.2f}"
        for name, value in similarities.items()
        if value < least
    }


def of_other_contrast(similarities: Mapping[str, float]) -> str | None:
    """Why images cannot have one template, a sentence, if the contrast of some is opposite to that of the others."""
    opposite = sorted(name for name, value in similarities.items() if value < 0)
    rest = sorted(set(similarities) - set(opposite))
    fewer = min(opposite, rest, key=len)
    if not opposite:
        return None
    named = ", ".join(fewer[:5]) + (" …" if len(fewer) > 5 else "")
    return (
        f"the images are of different contrast: {named} against {len(similarities) - len(fewer)} others; "
        "leave them out, or set template.contrast = 'many' in the settings"
    )


def sharpened(image: Image, strength: float) -> Image:
    """The image with steeper edges: what smoothing takes away is added `strength` times, within the local range.

    Unlike a plain Laplacian this makes no halos: no voxel goes beyond the least and largest value around it.
    """
    if strength == 0:
        return image
    data = image.data[None, None]
    sigma = [float(s) for s in image.grid.spacing_mm.min() / image.grid.spacing_mm]
    edges = data + strength * (data - gaussian(data, sigma))
    pool = functional.max_pool3d if data.ndim == 5 else functional.max_pool2d
    high, low = pool(data, 3, 1, 1), -pool(-data, 3, 1, 1)
    return Image(torch.minimum(torch.maximum(edges, low), high)[0, 0], image.grid)


class _Tally:
    """Sums over the cases, of the size of the template whatever their number."""

    def __init__(self, previous: Image | None, fixed: Image, shape: Placement, settings: TemplateSettings) -> None:
        self._shape, self._settings = shape, settings
        self._previous = None if previous is None else _whole(previous)
        self._contrast = fixed
        device = fixed.data.device
        self._total = torch.zeros(shape.grid.shape, dtype=torch.float64, device=device)
        self._weight = torch.zeros_like(self._total)
        self._levels = np.zeros(2)
        self._count = 0
        self.square_mm = 0.0
        self.ndv_percent = 0.0

    def add(self, image: Image, placement: Placement) -> None:
        """One case, as it lay on the previous template."""
        image = image.to(self._total.device)
        if self._settings.contrast == "many":
            image = turned(image, placement, self._contrast)
        placed = placement.after(self._shape)
        moved, seen = moved_onto(placed.grid, image, placed)
        values, mean, spread = standardised(moved, seen)
        weight = seen if self._previous is None else seen * _huber(values - self._previous, seen)
        self._total += values * weight
        self._weight += weight
        self._levels += (mean, spread)
        self._count += 1
        transform = placed.transform()
        if transform.displacement_mm is not None:
            self.square_mm += _length_mm(transform) ** 2
            self.ndv_percent = max(self.ndv_percent, _ndv_percent(transform))

    def template(self) -> tuple[Image, float]:
        """The template, and how much it has changed."""
        mean, spread = self._levels / self._count
        covered = self._weight > 0
        values = self._total / self._weight.clamp(min=1e-9)
        data = torch.where(covered, values * spread + mean, torch.zeros_like(values))
        image = sharpened(Image(data.float(), self._shape.grid), self._settings.sharpen)
        if self._previous is None:
            return image, float("nan")
        return image, float((_whole(image) - self._previous).square().mean().sqrt())


def _whole(image: Image) -> Tensor:
    return standardised(image.data.double(), torch.ones_like(image.data, dtype=torch.float64))[0]


def _huber(residual: Tensor, seen: Tensor) -> Tensor:
    """Weight 1 within `_CLEAR` standard deviations of the residual of this case, less beyond."""
    spread = ((residual.square() * seen).sum() / seen.sum()).sqrt()
    return (_CLEAR * spread / residual.abs().clamp(min=1e-9)).clamp(max=1)


def _affine_shape(
    names: Sequence[str], images: Mapping[str, Image], placements: Mapping[str, Placement], grid: Grid | None
) -> Placement:
    """The mid-space of affine placements; its grid is laid once, over the fields of view."""
    matrices = {name: placements[name].moving_from_template for name in names}
    grids = {name: images[name].grid for name in names} if grid is None else {}
    middle = mid_space(matrices, grids, grid)
    return Placement(middle.grid, middle.reference_from_template)


def _mean_velocity(names: Sequence[str], placements: Mapping[str, Placement], grid: Grid) -> Placement:
    """Inverse of the mean velocity; cases without one count as zero."""
    still = Placement(grid, np.eye(grid.ndim + 1))
    total: Tensor | None = None
    for placement in _moving(names, placements):
        assert placement.velocity_vox is not None
        velocity = placement.velocity_vox.double()
        total = velocity if total is None else total + velocity
        still = replace(still, cells=placement.cells)
    return still if total is None else replace(still, velocity_vox=(-total / len(names)).float())


def _moving(names: Sequence[str], placements: Mapping[str, Placement]) -> Iterator[Placement]:
    for name in names:
        placement = placements[name]
        if placement.velocity_vox is not None:
            yield placement


def _length_mm(transform: Transform) -> float:
    """Root mean square length of the displacement."""
    if transform.displacement_mm is None:
        return 0.0
    return float(transform.displacement_mm.double().square().sum(0).mean().sqrt())


def _moved_mm(shape: Placement) -> float:
    """Root mean square over the corners of the grid of how far the matrix moves them."""
    n, grid = shape.grid.ndim, shape.grid
    corners = grid.to_ras(np.stack(np.meshgrid(*[(0, side - 1) for side in grid.shape], indexing="ij"), -1))
    moved = corners @ shape.moving_from_template[:n, :n].T + shape.moving_from_template[:n, n]
    return float(np.sqrt(((moved - corners) ** 2).sum(-1).mean()))


def _ndv_percent(transform: Transform) -> float:
    """Non-diffeomorphic volume; where a side is too short for it, the share of folded voxels."""
    sides = [side for side in transform.grid.shape if side > 1]
    still = Transform(transform.grid, np.eye(transform.grid.ndim + 1), transform.displacement_mm)
    return digital_folding(still).volume_percent if min(sides) >= 3 else folding(still).percent
