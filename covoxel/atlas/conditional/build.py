"""A conditional template from a mapping of images, in one process; flows do the same steps a case at a time."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from covoxel.atlas.base import Iteration, Step, Template, TemplateSettings
from covoxel.atlas.conditional.brightness import Brightness, BrightnessRegression
from covoxel.atlas.conditional.design import Design, Value
from covoxel.atlas.conditional.effect import Effect, effect_of
from covoxel.atlas.conditional.template import ConditionalTemplate
from covoxel.atlas.labels import label_probabilities
from covoxel.atlas.mean import Mean, mean_of
from covoxel.atlas.place import place, turned
from covoxel.atlas.placement import Placement
from covoxel.spatial import Image

ROUNDS = 2
ROUND = Step(1, 1)
"""A round is a later iteration of a template."""


@dataclass(frozen=True)
class Round:
    """A row of the history.

    Parameters
    ----------
    number
        From 0, the effect on the template as it was built.
    facts
        Of the mean that the round ended with; None for the first row.
    effect_mm
        Root mean square over cases and voxels of what the covariates explain of the velocity.
    change
        Root mean square of its change in this round over that; NaN for the first row.
    """

    number: int
    facts: Iteration | None
    effect_mm: float
    change: float


def build_conditional(
    images: Mapping[str, Image],
    start: Template,
    known: Mapping[str, Mapping[str, Value]],
    covariates: Sequence[str],
    settings: TemplateSettings = TemplateSettings(),  # noqa: B008 (frozen)
    *,
    labels: Mapping[str, Image] | None = None,
    rounds: int = ROUNDS,
    degree: int = 1,
    device: torch.device | str = "cpu",
    placements: MutableMapping[str, Placement] | None = None,
) -> ConditionalTemplate:
    """Template of a cohort as a function of covariates, from one that was built without them.

    The velocities of the cases are regressed on the covariates; then, some rounds, every case is registered again,
    and only what differs from the velocity that its covariates let expect is held small; and so on.

    Parameters
    ----------
    images
        By id; may read an image when it is asked for.
    start
        Template with at least one deformable iteration.
    known
        Covariates by name of each case by id; cases of `start` that are not here take no part.
    covariates
        Names of those that count.
    settings
        By which `start` was built.
    labels
        Label maps by id; of cases that take part, all or some.
    rounds, degree
        Number of rounds, and of the polynomial in a covariate that is a number.
    device
        Where the work is done.
    placements
        Where placements are kept meanwhile, memory by default.

    Raises
    ------
    CovariateError
        If there can be none, see `Design.of`.
    """
    rows = {name: {key: known[name][key] for key in covariates} for name in start.placements if name in known}
    names, design = list(rows), Design.of(rows, covariates, degree=degree)
    weights = design.weights(rows)
    kept: MutableMapping[str, Placement] = {} if placements is None else placements
    for name in names:
        kept[name] = start.placements[name]
    image, effect = start.image, effect_of(kept, weights)
    for _ in range(rounds):
        for name in names:
            expected = effect.at(design.row(rows[name]))
            kept[name] = place_again(image, images[name].to(device), kept[name], expected, settings)
        mean = next_mean(names, images, kept, image.to(device), settings)
        for name in names:
            kept[name] = kept[name].after(mean.shape)
        image, effect = mean.image.to("cpu"), effect_of(kept, weights)
    brightness = brightness_of(images, kept, image, weights, settings)
    found = ConditionalTemplate(image, design, effect, brightness)
    voting = {name: labels[name] for name in names if name in labels} if labels else {}
    if not voting:
        return found
    values = sorted({0} | {int(v) for label_map in voting.values() for v in torch.unique(label_map.data)})
    return replace(found, labels=tuple(values), probabilities=label_probabilities(voting, kept, values))


def place_again(
    image: Image, case: Image, before: Placement, expected: Placement, settings: TemplateSettings
) -> Placement:
    """Where a case lies on a template, from where it lay, when its covariates let expect something of it."""
    return place(image.to(case.data.device), case, before, ROUND, replace(settings, engine="svf"), expected=expected)


def next_mean(
    names: Sequence[str],
    images: Mapping[str, Image],
    placements: Mapping[str, Placement],
    fixed: Image,
    settings: TemplateSettings,
) -> Mean:
    """The next template of the middle of the cohort."""
    return mean_of(names, images, placements, fixed, ROUND, settings)


def brightness_of(
    images: Mapping[str, Image],
    placements: Mapping[str, Placement],
    template: Image,
    weights: Mapping[str, NDArray[np.float64]],
    settings: TemplateSettings,
) -> Brightness:
    """How intensities follow the covariates; one image is held at a time."""
    regression = BrightnessRegression(template, weights)
    for name in weights:
        image, placement = images[name], placements[name]
        if settings.contrast == "many":
            image = turned(image, placement, template)
        regression.add(name, image, placement)
    return regression.brightness()


def round_of(
    number: int, facts: Iteration | None, effect: Effect, before: Effect | None, rows: NDArray[np.float64]
) -> Round:
    """Row of the history after a round, from the effects after and before it and the rows of the design."""
    size = effect.size_mm(rows)
    change = float("nan") if before is None else effect.minus(before).size_mm(rows) / max(size, 1e-9)
    return Round(number, facts, size, change)
