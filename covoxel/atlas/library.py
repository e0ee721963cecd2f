"""A library of templates: cases that are bent alike share one, and the closest serves a new case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from covoxel.atlas.base import Step, Template, TemplateSettings
from covoxel.atlas.mean import mean_of
from covoxel.atlas.place import correlation, place, turned
from covoxel.atlas.placement import Placement
from covoxel.spatial import Image

LEAST = 2
"""Cases of a template at least: a mean needs two."""

_AFFINE = Step(0, -1)
_CLEARLY = 0.9
_DECIMALS = 9


@dataclass(frozen=True, eq=False)
class Branch:
    """A template of those of many cases that are bent alike.

    Parameters
    ----------
    image
        Mean intensities, on the grid of the template of all cases and in its frame.
    members
        Ids of the cases of which it was made.
    placements
        Of all cases, members or not: those on the template of all, with what was taken out of its shape.
    """

    image: Image
    members: tuple[str, ...]
    placements: Mapping[str, Placement]


def branches(
    template: Template,
    images: Mapping[str, Image],
    count: int,
    settings: TemplateSettings = TemplateSettings(),  # noqa: B008 (frozen)
) -> list[Branch]:
    """Several templates made of one, without a registration more.

    Cases are grouped by how they are bent (`apart_mm`, `groups_of`); the mean of each group, in shape and intensity,
    is a template. It does not depend on the order or the names of the images.

    Parameters
    ----------
    template
        Of all cases, as `build_template` left it.
    images
        By id; may read an image when it is asked for.
    count
        Templates at most.
    settings
        By which the template was built.

    Returns
    -------
    list of Branch
        As many as bring templates nearer to cases; one where the cases have no groups.
    """
    names, placements = list(template.placements), template.placements
    step = Step(template.history[-1].number + 1, len(template.history) - settings.affine_rounds)
    found = []
    for group in groups_of(apart_mm(placements), count):
        members = tuple(names[index] for index in group)
        mean = mean_of(members, images, placements, template.image, step, settings)
        found.append(Branch(mean.image, members, {name: placements[name].after(mean.shape) for name in names}))
    return found


def apart_mm(placements: Mapping[str, Placement]) -> NDArray[np.float64]:
    """How differently cases are bent: distances `(case, case)` of their velocities on a template that they share.

    A distance is the root mean square over the cells of the difference, in mm. It costs no registration, and neither
    pose nor size of the cases counts, which the affine part of every registration makes good.

    Parameters
    ----------
    placements
        By id, on one template; may read each when it is asked for: two are held at a time. An affine one is not bent.
    """
    names = list(placements)
    distances = np.zeros((len(names), len(names)))
    for row, name in enumerate(names):
        one = _velocity_mm(placements[name])
        for column in range(row):
            gap = one - _velocity_mm(placements[names[column]])
            distances[row, column] = distances[column, row] = np.sqrt(np.square(gap).sum(0).mean())
    return np.round(distances, _DECIMALS)


def groups_of(distances: NDArray[np.float64], count: int) -> list[list[int]]:
    """Groups of cases that lie near each other, at most `count`: as many as bring their means nearer to a new case.

    A group's mean rests on fewer cases than the mean of all, and so may lie farther from a case of which it was not
    made. That is measured (`expected_mm`). More groups are made only where that distance is less by a tenth: they are
    made by the same distances, and a little is gained by chance.

    Parameters
    ----------
    distances, count
        As for `clusters`.
    """
    kept = clusters(distances, 1)
    for number in range(2, count + 1):
        found = clusters(distances, number)
        if expected_mm(distances, found) < _CLEARLY * expected_mm(distances, kept):
            kept = found
    return kept


def expected_mm(distances: NDArray[np.float64], groups: Sequence[Sequence[int]]) -> float:
    """How far a case lies from the mean of the other cases of its group, root mean square over the cases.

    Parameters
    ----------
    distances
        `(case, case)`, Euclidean: the distance to a mean follows from those between the cases.
    groups
        Of all cases, of two or more each.
    """
    squares = np.square(distances)
    found = []
    for group in groups:
        for case in group:
            others = [other for other in group if other != case]
            found.append(squares[case, others].mean() - squares[np.ix_(others, others)].mean() / 2)
    return float(np.sqrt(np.mean(found)))


def clusters(distances: NDArray[np.float64], count: int, least: int = LEAST) -> list[list[int]]:
    """Groups of cases that lie near each other, by Ward's criterion.

    The tree is cut until `count` groups have `least` cases; cases of smaller ones, outliers, join the group whose
    cases are nearest in the mean.

    Parameters
    ----------
    distances
        `(case, case)`, symmetric; the order of the cases should depend on their content alone.
    count
        Groups wanted.
    least
        Cases of a group at least.

    Returns
    -------
    list of list of int
        Indices, ascending, of each group; the groups by their first case. They are fewer where so many groups of
        `least` cases do not exist.

    References
    ----------
    Ward, Hierarchical grouping to optimize an objective function, J Am Stat Assoc 1963.
    """
    cases = len(distances)
    if count < 1 or least < 1:
        raise ValueError(f"count and least must be 1 or more, got {count}, {least}")
    whole = [list(range(cases))]
    if count == 1 or cases < 2 * least:
        return whole
    tree = linkage(squareform(distances, checks=False), "ward")
    best = whole
    for cut in range(2, cases + 1):
        found = fcluster(tree, cut, "maxclust")
        groups = [list(np.flatnonzero(found == group)) for group in np.unique(found)]
        large = [group for group in groups if len(group) >= least]
        if len(large) > len(best):
            best = large
        if len(best) >= count:
            break
    return _joined(distances, best)


def usual_likeness(
    images: Mapping[str, Image],
    placements: Mapping[str, Placement],
    templates: Sequence[Image],
    settings: TemplateSettings = TemplateSettings(),  # noqa: B008 (frozen)
) -> list[float]:
    """Correlation of cases with each template after their affine maps alone, mean over the cases.

    A mean of many cases is smoother than one of few, and more like everybody: by how much, this says.

    Parameters
    ----------
    images, placements
        By id, on the template that all share; each may be read when it is asked for.
    templates, settings
        As for `likeness`.
    """
    found = []
    for name, placement in placements.items():
        affine = Placement(placement.grid, placement.moving_from_template)
        found.append(_correlations(images[name].to(templates[0].data.device), affine, templates, settings))
    return [float(value) for value in np.mean(found, axis=0)]


def likeness(
    image: Image,
    shared: Image,
    templates: Sequence[Image],
    usual: Sequence[float],
    settings: TemplateSettings = TemplateSettings(),  # noqa: B008 (frozen)
) -> list[float]:
    """How much more a case is like each template than cases usually are; the closest has the most.

    Parameters
    ----------
    image
        The case, intensities of about 0 to 1. One affine registration brings it to all templates.
    shared
        The template of all cases, of which the templates were made: they lie in its frame.
    templates
        On the grid of `shared`, all on one device.
    usual
        `usual_likeness` of the cases of which the templates were made.
    settings
        Freedom and similarity of the registration; contrast.

    Returns
    -------
    list of float
        Differences of correlations.

    Raises
    ------
    ValueError
        If the case could not be brought there.

    References
    ----------
    Wang and Zhang, Atlas propagation through template selection, MICCAI 2018.
    """
    placement = place(shared, image, None, _AFFINE, settings)
    found = _correlations(image, placement, templates, settings)
    return [value - other for value, other in zip(found, usual, strict=True)]


def _correlations(
    image: Image, placement: Placement, templates: Sequence[Image], settings: TemplateSettings
) -> list[float]:
    many = settings.contrast == "many"
    return [
        correlation(template, turned(image, placement, template) if many else image, placement)
        for template in templates
    ]


def _velocity_mm(placement: Placement) -> NDArray[np.float64]:
    """`(n, *nodes)`; zero without a velocity."""
    nodes, n = placement.nodes, placement.grid.ndim
    if placement.velocity_vox is None:
        return np.zeros((n, *[1] * n))
    velocity = placement.velocity_vox.double().cpu().numpy()
    return np.asarray(np.einsum("cd,d...->c...", nodes.ras_from_voxel[:n, :n], velocity))


def _joined(distances: NDArray[np.float64], groups: list[list[int]]) -> list[list[int]]:
    """The groups, with cases that are in none among those that are nearest to them."""
    joined = [list(map(int, group)) for group in groups]
    for case in sorted(set(range(len(distances))) - {case for group in groups for case in group}):
        nearest = min(range(len(groups)), key=lambda index: distances[case, groups[index]].mean())
        joined[nearest].append(case)
    return sorted(sorted(group) for group in joined)
