"""Series: a template between visits, which does not take a bias field for a change, nor names for an order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from covoxel.longitudinal import (
    SeriesSettings,
    add_visits,
    build_series,
    carried,
    inverse_of,
    jacobian_volumes,
    probable_volumes,
)
from covoxel.longitudinal.intensity import even_out, scaled
from covoxel.longitudinal.refinement import small_displacement
from covoxel.spatial import Grid, Image, Transform, warp
from covoxel.testing.longitudinal import CHANGING, SCANNER, STABLE, draw_series, phantom

QUICK = SeriesSettings(levels=0, rounds=3)
SHAPE = (40, 36)


def discs(radius: float, shift: float = 0.0, seed: int = 0, noise: float = 0.01) -> torch.Tensor:
    """A disc in a larger one, `(1, 1, *SHAPE)`."""
    i, j = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")

    def disc(r: float) -> np.ndarray:
        return 1 / (1 + np.exp((np.hypot(i - 19.5 - shift, j - 17.5) - r) / 0.7))

    image = 0.5 * disc(15) + 0.4 * disc(radius) + np.random.default_rng(seed).normal(0, noise, SHAPE)
    return torch.tensor(image, dtype=torch.float32)[None, None]


def plane(image: torch.Tensor) -> Image:
    return Image(image[0, 0], Grid.from_spacing(SHAPE, 1.0))


def test_a_shift_of_a_part_of_a_voxel_is_found() -> None:
    mask = torch.ones(1, 1, *SHAPE)
    w = torch.zeros(1, 2, *SHAPE)
    for _ in range(3):
        w = w + small_displacement(discs(7.0, seed=1), warp(discs(7.0, 0.4), w), mask, spacing_mm=(1, 1))
    edge = discs(7.0, noise=0)[0, 0] - discs(6.0, noise=0)[0, 0] > 0.1
    # Where the border runs along the shift, it does not show: there the penalty says no.
    assert float(w[0, 0][edge].mean()) == pytest.approx(0.36, abs=0.04)
    assert float(w[0, 1][edge].mean()) == pytest.approx(0.0, abs=0.05)


def test_a_gain_moves_no_border() -> None:
    mask = torch.ones(1, 1, *SHAPE)
    w = small_displacement(discs(7.0), 1.03 * discs(7.0, seed=1), mask, spacing_mm=(1, 1))
    inner = discs(7.0, noise=0)[0, 0] > 0.7
    i, j = torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")
    away = torch.stack([i - 19.5, j - 17.5]).float()
    outward = (w[0] * away).sum(0) / away.norm(dim=0).clamp(min=1)
    edge = inner & ~(discs(5.5, noise=0)[0, 0] > 0.7)
    assert abs(float(outward[edge].mean())) < 0.04


def test_a_bias_field_is_evened_out_and_a_bright_structure_not_cut_off() -> None:
    template, mask = discs(7.0, noise=0), torch.ones(1, 1, *SHAPE)
    field = torch.linspace(0.8, 1.25, SHAPE[0])[:, None]
    even = even_out(template * field, template, mask, (6.0, 6.0))
    inside = template > 0.3
    assert float((even / template)[inside].std()) < 0.5 * float(field.expand(SHAPE)[inside[0, 0]].std())
    bright = torch.zeros(SHAPE)
    bright[10:30, 8:28] = torch.linspace(0.5, 1, 20)
    bright[20, 17] = 9
    assert float(scaled(Image(bright, Grid.from_spacing(SHAPE, 1.0))).data.max()) > 5


def test_growth_is_found_in_2d_and_neither_names_nor_order_matter() -> None:
    images = {"a": plane(discs(7.0)), "b": plane(discs(7.2, seed=1)), "c": plane(discs(7.4, seed=2))}
    series = build_series(images, QUICK)
    other = build_series({new: images[old] for new, old in (("z", "c"), ("m", "a"), ("q", "b"))}, QUICK)
    torch.testing.assert_close(series.template.data, other.template.data, rtol=0, atol=0)
    inner = (series.template.data > 0.7).float()
    labels = torch.stack([1 - inner, inner])
    volumes = {name: jacobian_volumes(labels, (0, 1), t)[1] for name, t in series.transforms.items()}
    assert volumes["c"] / volumes["a"] == pytest.approx((7.4 / 7.0) ** 2, abs=0.02)
    mean = torch.stack([t.displacement_mm for t in series.transforms.values() if t.displacement_mm is not None]).mean(0)
    assert float(mean.abs().max()) < 0.05


def test_one_visit_is_its_own_template_and_none_is_refused() -> None:
    image = plane(discs(7.0))
    series = build_series({"a": image}, QUICK)
    assert series.template is image
    assert series.transforms["a"].displacement_mm is None
    with pytest.raises(ValueError, match="images must be one visit or more, got none"):
        build_series({}, QUICK)


def test_there_and_back_is_where_one_was_and_volumes_both_ways_agree() -> None:
    grid = Grid.from_spacing((24, 22, 20), 2.0)
    onto = Grid(grid.shape, np.array([[-1.9, 0.1, 0, 23], [0.1, 1.9, 0, -21], [0, 0, 2.1, -20], [0, 0, 0, 1]]))
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in grid.shape], indexing="ij")
    bump = torch.exp(-4 * sum((a**2 for a in axes), torch.zeros(())))
    matrix = np.eye(4)
    matrix[:3, 3] = (1.0, -2.0, 0.5)
    transform = Transform(grid, matrix, torch.stack([bump * 1.5, -bump, bump * 0.5]))
    back = inverse_of(transform, onto)
    points = onto.to_ras(np.array([[12, 11, 10], [9, 12, 8], [14, 8, 12]]))
    np.testing.assert_allclose(transform.map(back.map(points)), points, atol=0.04)
    inside = torch.sigmoid((0.5 - torch.sqrt(sum((a**2 for a in axes), torch.zeros(())))) * 12)
    labels = torch.stack([1 - inside, inside])
    by_labels = probable_volumes(carried(labels, transform, onto), (0, 4), onto)
    assert by_labels[4] == pytest.approx(jacobian_volumes(labels, (0, 4), transform)[4], rel=0.01)


def test_a_visit_added_moves_the_others_a_little_and_ends_near_a_series_of_all() -> None:
    images = {
        name: plane(discs(r, seed=k)) for k, (name, r) in enumerate(zip("abcd", (7.0, 7.2, 7.4, 7.6), strict=True))
    }
    three = build_series({name: images[name] for name in "abc"}, QUICK)
    four = add_visits(three, images, QUICK)
    assert set(four.transforms) == set("abcd")
    assert four.first_from_template is not None

    def growth(series: object, name: str) -> float:
        return _area(series, name) / _area(series, "a")

    whole = build_series(images, QUICK)
    for name in "bcd":
        assert growth(four, name) == pytest.approx(growth(whole, name), abs=0.015)
    assert add_visits(four, images, QUICK) is four
    with pytest.raises(ValueError, match="images must hold every visit of the series, 'a' is missing"):
        add_visits(three, {"b": images["b"]}, QUICK)


def _area(series, name: str) -> float:  # type: ignore[no-untyped-def]
    inner = (series.template.data > 0.7).float()
    return jacobian_volumes(torch.stack([1 - inner, inner]), (0, 1), series.transforms[name])[1]


def test_the_synthetic_structure_changes_by_what_is_said_and_the_other_does_not() -> None:
    calm = replace(SCANNER, noise=0.0, bias=0.0, warp_mm=1.0)
    first, last = draw_series(
        phantom(0, 2.0), (5,), percent_per_year=-3.0, years=(0, 5), spacing_mm=2.0, variability=calm
    )
    assert last.factor == pytest.approx(0.97**5)

    def volume(visit: object, label: int) -> int:
        return int((visit.label_map.data == label).sum())  # type: ignore[attr-defined]

    assert volume(last, CHANGING) / volume(first, CHANGING) == pytest.approx(last.factor, abs=0.015)
    assert volume(last, STABLE) / volume(first, STABLE) == pytest.approx(1.0, abs=0.015)
