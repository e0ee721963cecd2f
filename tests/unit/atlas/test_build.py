"""A template: centred, the same in any order, robust against what does not fit."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from covoxel.atlas import FolderOfPlacements, TemplateSettings, build_template, label_probabilities
from covoxel.atlas.mean import astray, sharpened
from covoxel.registration.base import MovingBatch
from covoxel.registration.descent import Schedule, Term, deform, descend_velocity
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.smoothing import gaussian

QUICK = TemplateSettings(affine_rounds=1, iterations=2, tolerance=0, first=(20, 20), later=(5,), sharpen=0)


def head(centre: tuple[float, float], radii: tuple[float, float], seed: int = 0) -> tuple[Image, Image]:
    """A soft ellipse with a dark core, and their labels; sides and spacing of the grid differ from seed to seed."""
    grid = Grid.from_spacing((40 + seed, 44 - seed), 1.0 + 0.05 * seed)
    world = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    away = np.linalg.norm((world - centre) / radii, axis=-1)
    values = 1 / (1 + np.exp(8 * (away - 1))) - 0.6 / (1 + np.exp(12 * (away - 0.4)))
    values = values + np.random.default_rng(seed).normal(0, 0.01, grid.shape)
    labels = np.where(away < 0.4, 2, np.where(away < 1, 1, 0))
    return Image(torch.tensor(values, dtype=torch.float32), grid), Image(torch.tensor(labels), grid)


def heads() -> dict[str, tuple[Image, Image]]:
    """Five heads whose centres and (by their logarithms) radii have the means (1, -1) and 12, 14."""
    shifts = [(-3, 2), (4, -1), (0, -4), (-2, 3), (1, 0)]
    growths = [(0.1, -0.1), (-0.1, 0.05), (0.0, 0.15), (0.05, -0.15), (-0.05, 0.05)]
    return {
        f"h{i}": head((1 + s[0], -1 + s[1]), (12 * np.exp(g[0]), 14 * np.exp(g[1])), i)
        for i, (s, g) in enumerate(zip(shifts, growths, strict=True))
    }


def images() -> dict[str, Image]:
    return {name: image for name, (image, _) in heads().items()}


def test_a_template_is_the_middle_of_its_cases() -> None:
    cases = heads()
    found = build_template(images(), QUICK)
    labels = {name: label_map for name, (_, label_map) in cases.items()}
    probabilities = label_probabilities(labels, found.placements, [0, 1, 2])
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    mask = (1 - probabilities[0]).double()
    voxels = np.stack(np.meshgrid(*map(np.arange, found.image.grid.shape), indexing="ij"), -1)
    world = torch.tensor(found.image.grid.to_ras(voxels))
    centre = (world * mask[..., None]).sum((0, 1)) / mask.sum()
    np.testing.assert_allclose(centre, (1, -1), atol=0.5)
    area = float(mask.sum()) * found.image.grid.voxel_volume_mm
    assert area == pytest.approx(np.pi * 12 * 14, rel=0.05)
    assert float((probabilities.max(0).values > 0.9).float().mean()) > 0.9, "the labels meet"
    mean_velocity = sum(p.velocity_vox.double() for p in found.placements.values() if p.velocity_vox is not None)
    assert float(torch.as_tensor(mean_velocity).abs().max()) < 1e-5
    assert [row.kind for row in found.history] == ["affine", "deform", "deform"]
    assert found.history[-1].similarity > 0.98
    assert found.history[-1].ndv_percent == 0


class Lazy(Mapping[str, Image]):
    """Images that are read when they are asked for; counts how many are held."""

    def __init__(self, of: Mapping[str, Image]) -> None:
        self._of = of

    def __getitem__(self, name: str) -> Image:
        image = self._of[name]
        return Image(image.data.clone(), image.grid)

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def test_order_names_and_the_place_of_placements_change_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    cases = images()
    turned = {f"x{9 - i}": cases[name] for i, name in enumerate(reversed(cases))}
    first = build_template(cases, QUICK)
    folder = FolderOfPlacements(tmp_path_factory.mktemp("placements"))
    second = build_template(Lazy(turned), QUICK, placements=folder)
    assert torch.equal(first.image.data, second.image.data)
    assert first.image.grid.isclose(second.image.grid)


def test_what_does_not_fit_is_left_out_and_named() -> None:
    cases = images()
    noise = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    cases["noise"] = Image(noise, Grid.from_spacing((40, 40), 1.0))
    cases["flat"] = Image(torch.full((40, 40), 0.3), Grid.from_spacing((40, 40), 1.0))
    found = build_template(cases, replace(QUICK, iterations=1))
    assert set(found.left_out) == {"noise", "flat"}
    assert "did not converge" in found.left_out["noise"]
    assert "one intensity only" in found.left_out["flat"]
    assert set(found.placements) == set(images())


def test_what_cannot_be_one_template_is_refused_in_a_sentence() -> None:
    cases = images()
    with pytest.raises(ValueError, match="two images or more, got 1"):
        build_template({"h0": cases["h0"]}, QUICK)
    with pytest.raises(ValueError, match="all be 2-D or all 3-D"):
        build_template({**cases, "v": Image(torch.rand(8, 8, 8), Grid.from_spacing((8, 8, 8)))}, QUICK)
    inverted = {**cases, "h3": Image(0.8 - cases["h3"].data, cases["h3"].grid)}
    with pytest.raises(ValueError, match="different contrast: h3 against 4 others"):
        build_template(inverted, QUICK)
    with pytest.raises(ValueError, match="two levels at most"):
        replace(QUICK, later=(5, 5, 5))


def test_contrasts_may_be_mixed_where_that_is_asked_for() -> None:
    cases = images()
    inverted = {**cases, "h3": Image(0.8 - cases["h3"].data, cases["h3"].grid)}
    found = build_template(inverted, replace(QUICK, contrast="many", iterations=1))
    assert not found.left_out
    assert min(placement.similarity for placement in found.placements.values()) > 0.95
    assert float(found.image.data.std()) > 0.8 * float(cases["h0"].data.std()), "contrasts do not cancel"


def test_far_from_the_others_is_told_only_among_enough() -> None:
    assert astray({"a": 0.9, "b": 0.91, "c": 0.1}) == {}
    assert set(astray({"a": 0.9, "b": 0.91, "c": 0.92, "d": 0.5})) == {"d"}


def test_sharpening_steepens_edges_without_halos() -> None:
    plain = head((0, 0), (12, 14))[0]
    image = Image(gaussian(plain.data.round(decimals=1)[None, None], (1.0, 1.0))[0, 0], plain.grid)
    sharp = sharpened(image, 1.0)
    assert float(sharp.data.max()) <= float(image.data.max())
    assert float(sharp.data.min()) >= float(image.data.min())
    steepness = [float(torch.stack(torch.gradient(i.data)).square().mean()) for i in (image, sharp)]
    assert steepness[1] > 1.05 * steepness[0]


def test_a_descent_that_goes_on_does_not_begin_anew() -> None:
    fixed, moving = (image for image, _ in (head((0, 0), (12, 14)), head((1.5, 0), (10, 14))))
    batch = MovingBatch.of([moving], "cpu")
    terms = [Term.of_intensities(fixed, batch, "lncc", 2)]
    start = [Transform.identity(fixed.grid)]

    def schedule(*iterations: int) -> Schedule:
        return Schedule(iterations, "diffusion", 0.5, 0.5, (1.0,), (0.5,))

    first = descend_velocity(start, terms, schedule(20, 10))
    assert first is not None
    same = descend_velocity(start, terms, schedule(0, 0), first)
    assert same is not None
    assert torch.equal(same.velocity_vox, first.velocity_vox)
    (direct,) = deform(start, terms, schedule(20, 10))
    assert direct.displacement_mm is not None
    assert torch.equal(first.displacement_vox(fixed.grid)[0], direct.displacement_mm)
