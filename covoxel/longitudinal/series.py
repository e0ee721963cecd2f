"""A template half-way between the visits of one subject, and what a new visit changes in it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from covoxel.atlas.middle import mid_space
from covoxel.atlas.placement import inside, inverse, through
from covoxel.longitudinal.base import Series, SeriesSettings
from covoxel.longitudinal.intensity import even_out
from covoxel.longitudinal.refinement import small_displacement
from covoxel.registration import register
from covoxel.registration.descent import refine_field
from covoxel.registration.pyramid import cell_factors, cell_grid
from covoxel.spatial import Grid, Image, Transform, sample
from covoxel.spatial.field import compose, displacement_mm_from_vox, displacement_vox_from_mm, invert
from covoxel.spatial.smoothing import cell_means

_SMALLEST_SIDE = 10
_FAR_VOX = 1.0
_POSE: dict[str, Any] = {"iterations": (40, 20), "finest_voxels": 20_000}
"""Options of the affine engine: a tenth of a voxel is near enough, the displacement makes good what is left over."""


def build_series(images: Mapping[str, Image], settings: SeriesSettings = SeriesSettings()) -> Series:  # noqa: B008
    """The template of a subject from all visits at once; none of them is favoured.

    Poses are found rigidly against one visit, and their mean is taken out. Then the mean of all and the displacement
    of each are improved in turn, coarse to fine; what the displacements have in common is taken out of every step.
    Neither the names nor the order of the visits matter, and their dates are not known here.

    Parameters
    ----------
    images
        One or more visits by id, intensities of about 0 to 1, not clipped.
    settings
        How.

    Returns
    -------
    Series
        Of one visit: the visit itself.

    Raises
    ------
    ValueError
        If there is no visit, or the visits differ in their number of dimensions.
    """
    images = ordered(images)
    names = list(images)
    if not names:
        raise ValueError("images must be one visit or more, got none")
    first = images[names[0]]
    if len(names) == 1:
        return Series(first, {names[0]: Transform.identity(first.grid)})
    poses = _poses(first, [images[name] for name in names[1:]], settings)
    matrices = dict(zip(names, [np.eye(first.grid.ndim + 1), *poses], strict=True))
    space = mid_space(matrices, {name: images[name].grid for name in names})
    transforms = {name: Transform(space.grid, space.moving_from_template[name]) for name in names}
    blank = Image(torch.zeros(space.grid.shape), space.grid)
    series = Series(_mean(blank, images, transforms, None), transforms)
    for power in _powers(space.grid, settings.levels):
        for _ in range(settings.coarse_rounds if power else settings.rounds):
            series = _improved(series, images, settings, power)
    return series


def add_visits(
    series: Series,
    images: Mapping[str, Image],
    settings: SeriesSettings = SeriesSettings(),  # noqa: B008
) -> Series:
    """The series with more visits: the new ones are brought onto the template there is, then all move a little.

    Parameters
    ----------
    series
        Of the earlier visits.
    images
        Of all visits, the earlier ones included.
    settings
        How; of the earlier visits only `update_rounds` steps of the finest level are done.

    Raises
    ------
    ValueError
        If an earlier visit has no image.
    """
    missing = sorted(set(series.transforms) - set(images))
    if missing:
        raise ValueError(f"images must hold every visit of the series, {missing[0]!r} is missing")
    images = ordered(images)
    new = [name for name in images if name not in series.transforms]
    if not new:
        return series
    grid = series.template.grid
    poses = _poses(series.template, [images[name] for name in new], settings)
    added = Series(series.template, {n: Transform(grid, p) for n, p in zip(new, poses, strict=True)})
    alone = max(1, settings.rounds - settings.update_rounds)
    for power in _powers(grid, settings.levels):
        for _ in range(settings.coarse_rounds if power else alone):
            added = _moved_on(added, images, settings, power, centred=False)
    whole = _centred(replace(series, transforms={**series.transforms, **added.transforms}))
    whole = replace(whole, template=_mean(whole.template, images, whole.transforms, settings))
    for _ in range(settings.update_rounds):
        whole = _improved(whole, images, settings, 0)
    return whole


def ordered(images: Mapping[str, Image]) -> dict[str, Image]:
    """The visits in an order that depends on their voxels alone: sums then do not depend on names."""
    keys = {name: sha256(image.data.contiguous().numpy().tobytes()).digest() for name, image in images.items()}
    return {name: images[name] for name in sorted(images, key=lambda name: (keys[name], name))}


def levelled(series: Series, images: Mapping[str, Image], name: str, settings: SeriesSettings) -> Image:
    """A visit on the template's grid, sampled once, its bias field against the template removed."""
    moved, _ = _on_template(series.template, images[name], series.transforms[name], settings)
    return Image(moved[0, 0], series.template.grid)


def _poses(fixed: Image, moving: Sequence[Image], settings: SeriesSettings) -> list[np.ndarray]:
    found = register("affine", fixed, moving, freedom="rigid", similarity=settings.similarity, **_POSE)
    return [transform.moving_from_fixed for transform in found]


def _powers(grid: Grid, levels: int) -> list[int]:
    """Levels that the grid is large enough for, coarse to fine."""
    return [p for p in range(levels, -1, -1) if p == 0 or min(s for s in grid.shape if s > 1) >= _SMALLEST_SIDE * 2**p]


def _improved(series: Series, images: Mapping[str, Image], settings: SeriesSettings, power: int) -> Series:
    """One step of every visit's displacement, and the mean anew."""
    moved = _moved_on(series, images, settings, power, centred=True)
    return replace(moved, template=_mean(series.template, images, moved.transforms, settings))


def _moved_on(
    series: Series, images: Mapping[str, Image], settings: SeriesSettings, power: int, *, centred: bool
) -> Series:
    """One step of every visit's displacement; `centred`: without what the steps have in common."""
    template, steps = series.template, {}
    for name in (name for name in images if name in series.transforms):
        moved, mask = _on_template(template, images[name], series.transforms[name], settings)
        steps[name] = _step(template, moved, mask, settings, power)
    if power and not any(_is_far(step) for step in steps.values()):
        return series
    if centred:
        common = torch.stack(list(steps.values())).mean(0)
        steps = {name: step - common for name, step in steps.items()}
    return replace(series, transforms={name: _after(series.transforms[name], step) for name, step in steps.items()})


def _is_far(step: Tensor) -> bool:
    """Whether a step on coarse cells goes farther somewhere than the finest level sees for itself.

    Coarse cells cannot tell a slow change of intensity from a border that moved; where nothing moved far they would
    only add that error.
    """
    return float(step.square().sum(1).max()) > _FAR_VOX**2


def _step(template: Image, moved: Tensor, mask: Tensor, settings: SeriesSettings, power: int) -> Tensor:
    """Displacement in voxels of the template, found on cells of about `2**power` voxels."""
    grid, n = template.grid, template.grid.ndim
    factors = cell_factors(grid, float(grid.spacing_mm.min()) * 2**power)
    cells = cell_grid(grid, factors)
    fixed, seen = cell_means(template.data[None, None], factors), cell_means(mask, factors)
    spacing = [float(s) for s in cells.spacing_mm]
    found = small_displacement(
        fixed, cell_means(moved, factors), (seen > 0.99).to(moved), spacing_mm=spacing, strain=settings.strain
    )
    return refine_field(found, factors, (1,) * n, grid.shape)


def _on_template(
    template: Image, image: Image, transform: Transform, settings: SeriesSettings | None
) -> tuple[Tensor, Tensor]:
    """A visit `(1, 1, *shape)` on the template's grid, without its own bias field; and where it is known."""
    at = transform.moving_coordinates_vox(image.grid)
    moved, mask = sample(image.data[None, None].float(), at), inside(at, image.grid)
    if settings is None:
        return moved, mask
    sigma = [settings.bias_mm / float(s) for s in template.grid.spacing_mm]
    return even_out(moved, template.data[None, None], mask, sigma), mask


def _mean(
    template: Image,
    images: Mapping[str, Image],
    transforms: Mapping[str, Transform],
    settings: SeriesSettings | None,
) -> Image:
    """Mean of the visits where they are known; what none sees stays as it was."""
    total, count = torch.zeros(template.grid.shape), torch.zeros(template.grid.shape)
    for name in (name for name in images if name in transforms):
        moved, mask = _on_template(template, images[name], transforms[name], settings)
        total += (moved * mask)[0, 0]
        count += mask[0, 0]
    return Image(torch.where(count > 0, total / count.clamp(min=1), template.data), template.grid)


def _after(transform: Transform, step: Tensor) -> Transform:
    """The transform after a small displacement `(1, n, *shape)`, voxels."""
    grid = transform.grid
    if transform.displacement_mm is not None:
        step = compose(displacement_vox_from_mm(transform.displacement_mm[None], grid), step)
    return replace(transform, displacement_mm=displacement_mm_from_vox(step, grid)[0])


def _centred(series: Series) -> Series:
    """The series in a template whose shape is the mean of the visits again."""
    grid, n = series.template.grid, series.template.grid.ndim
    zero = torch.zeros(n, *grid.shape)
    placed = [series.transforms[name] for name in sorted(series.transforms)]
    fields = [zero if t.displacement_mm is None else t.displacement_mm for t in placed]
    common = displacement_vox_from_mm(torch.stack(fields).mean(0)[None], grid)
    back = invert(common, iterations=10)
    shape = Transform(grid, np.eye(n + 1), displacement_mm_from_vox(back, grid)[0])
    before = series.first_from_template
    warped = sample(series.template.data[None, None], shape.moving_coordinates_vox(grid))[0, 0]
    return Series(
        Image(warped, grid),
        {name: _after(transform, back) for name, transform in series.transforms.items()},
        shape if before is None else through(before, shape),
    )


def inverse_of(transform: Transform, onto: Grid) -> Transform:
    """From points of a visit, whose grid is `onto`, to points of the template: the way back of a transform.

    The displacement is inverted by fixed-point iteration on the template's grid; beyond it there is none.
    """
    matrix = inverse(transform.moving_from_fixed)
    if transform.displacement_mm is None:
        return Transform(onto, matrix)
    grid = transform.grid
    back = invert(displacement_vox_from_mm(transform.displacement_mm[None].float(), grid), iterations=10)
    undone = Transform(grid, np.eye(grid.ndim + 1), displacement_mm_from_vox(back, grid)[0])
    return through(undone, Transform(onto, matrix))
