"""A library of templates: groups of those that are bent alike, whatever their order; the closest serves a case."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

from covoxel.atlas import (
    Branch,
    Placement,
    Template,
    TemplateSettings,
    branches,
    build_template,
    likeness,
    usual_likeness,
)
from covoxel.atlas.library import apart_mm, clusters, expected_mm, groups_of
from covoxel.spatial import Grid, Image

QUICK = TemplateSettings(affine_rounds=1, iterations=1, first=(15, 15), sharpen=0)
KINDS = {"a": "left", "b": "right", "c": "left", "d": "left", "e": "right", "f": "right"}


def head(kind: str, seed: int) -> Image:
    """A disc with a notch on one side, which no affine map brings onto the other without turning it over."""
    grid = Grid.from_spacing((40, 40), 1.0)
    draw = np.random.default_rng(seed)
    world = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)) - draw.uniform(-2, 2, 2)
    side = 1 if kind == "right" else -1
    disc = 1 / (1 + np.exp(np.linalg.norm(world / [13, 15], axis=-1) * 16 - 16))
    notch = np.exp(-0.5 * (np.linalg.norm(world - [11 * side, 4], axis=-1) / 4) ** 2)
    core = 0.5 * np.exp(-0.5 * (np.linalg.norm(world - [0, -6], axis=-1) / 3) ** 2)
    return Image(torch.tensor(disc * (1 - notch) - core + draw.normal(0, 0.01, grid.shape)).float(), grid)


def heads() -> dict[str, Image]:
    return {name: head(kind, seed) for seed, (name, kind) in enumerate(KINDS.items())}


def distances(points: ArrayLike) -> NDArray[np.float64]:
    places = np.asarray(points, dtype=np.float64)
    return np.asarray(np.linalg.norm(places[:, None] - places[None], axis=-1))


def named(found: list[list[int]], order: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(int(order[index]) for index in group) for group in found}


@pytest.fixture(scope="module")
def shared() -> Template:
    return build_template(heads(), QUICK)


@pytest.fixture(scope="module")
def found(shared: Template) -> list[Branch]:
    return branches(shared, heads(), 2, QUICK)


def test_cases_that_are_bent_alike_share_a_template_and_the_closest_serves_a_new_one(
    shared: Template, found: list[Branch]
) -> None:
    assert {branch.members for branch in found} == {
        tuple(name for name in shared.placements if KINDS[name] == kind) for kind in ("left", "right")
    }
    for branch in found:
        assert set(branch.placements) == set(KINDS), "every case lies on every template"
        total = sum(velocity(branch.placements[name]) for name in branch.members)
        assert float(torch.as_tensor(total).abs().max()) < 1e-5, "its own cases have it in their middle"
    templates = [branch.image for branch in found]
    usual = usual_likeness(heads(), shared.placements, templates, QUICK)
    for kind, seed in (("left", 11), ("right", 12)):
        alike = likeness(head(kind, seed), shared.image, templates, usual, QUICK)
        assert KINDS[found[int(np.argmax(alike))].members[0]] == kind
        assert max(alike) - min(alike) > 0.01


def test_a_template_that_is_like_everybody_is_not_the_closest_for_that(shared: Template, found: list[Branch]) -> None:
    (left,) = [branch.image for branch in found if KINDS[branch.members[0]] == "left"]
    noise = 0.3 * torch.randn(left.grid.shape, generator=torch.Generator().manual_seed(0))
    templates = [Image(left.data + noise, left.grid), shared.image]
    usual = usual_likeness(heads(), shared.placements, templates, QUICK)
    case = head("left", 11)
    assert int(np.argmax(likeness(case, shared.image, templates, [0, 0], QUICK))) == 1, "noise makes it unlike all"
    assert int(np.argmax(likeness(case, shared.image, templates, usual, QUICK))) == 0


def velocity(placement: Placement) -> torch.Tensor:
    assert placement.velocity_vox is not None
    return placement.velocity_vox.double()


def test_order_and_names_change_no_template(found: list[Branch]) -> None:
    images = heads()
    other = {f"x{9 - number}": images[name] for number, name in enumerate(reversed(images))}
    other_name = dict(zip(reversed(images), other, strict=True))
    second = branches(build_template(other, QUICK), other, 2, QUICK)
    assert [tuple(other_name[name] for name in branch.members) for branch in found] == [b.members for b in second]
    for one, two in zip(found, second, strict=True):
        assert torch.equal(one.image.data, two.image.data)


def test_groups_do_not_depend_on_the_order_and_outliers_make_none() -> None:
    draw = np.random.default_rng(0)
    points = np.concatenate([draw.normal(0, 0.3, (5, 3)), draw.normal(4, 0.3, (4, 3)), [[40.0, 0.0, 0.0]]])
    expected = {frozenset(range(5)) | {9}, frozenset(range(5, 9))}
    if distances(points)[9, 5:9].mean() < distances(points)[9, :5].mean():
        expected = {frozenset(range(5)), frozenset(range(5, 10))}
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(10)
        assert named(clusters(distances(points[order]), 2), order) == expected
    assert min(map(len, clusters(distances(points), 9))) >= 2


def test_there_are_as_many_groups_as_cases_make() -> None:
    near = distances(np.arange(5.0)[:, None] ** 1.5)
    assert clusters(near, 1) == [[0, 1, 2, 3, 4]]
    assert clusters(near[:3, :3], 2) == [[0, 1, 2]], "three cases are too few for two templates"
    assert len(clusters(near, 9)) == 2
    with pytest.raises(ValueError, match="count and least must be 1 or more, got 0, 2"):
        clusters(near, 0)


def test_there_are_several_groups_only_where_their_means_are_nearer_to_a_new_case() -> None:
    draw = np.random.default_rng(1)
    cloud = draw.normal(0, 1, (20, 30))
    assert groups_of(distances(cloud), 4) == [list(range(20))], "a cloud has no groups"
    shifts = np.eye(30)[[0, 1, 2]] * 12
    planted = cloud + np.repeat(shifts, [8, 7, 5], axis=0)
    expected = [list(range(8)), list(range(8, 15)), list(range(15, 20))]
    assert groups_of(distances(planted), 3) == expected
    assert groups_of(distances(planted), 6) == expected
    means = [np.delete(cloud, case, 0).mean(0) for case in range(20)]
    away = np.sqrt(np.square(cloud - means).sum(1).mean())
    assert expected_mm(distances(cloud), [range(20)]) == pytest.approx(away)


def test_how_differently_cases_are_bent_is_a_length_in_mm() -> None:
    grid = Grid.from_spacing((8, 6), (2.0, 3.0))
    still = Placement(grid, np.eye(3))
    shift = torch.tensor([1.0, -0.5])[:, None, None].expand(2, 4, 3)
    bent = replace(still, velocity_vox=shift, cells=(2, 2))
    placements: Mapping[str, Placement] = {"still": still, "bent": bent, "back": replace(bent, velocity_vox=-shift)}
    np.testing.assert_allclose(apart_mm(placements), [[0, 5, 5], [5, 0, 10], [5, 10, 0]], atol=1e-6)
