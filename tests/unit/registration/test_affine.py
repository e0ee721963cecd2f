"""An affine registration does not run away: content alone counts, and what no anatomy does is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from covoxel.preprocessing import Box, preprocess
from covoxel.registration import MovingBatch, register
from covoxel.registration import affine as engine
from covoxel.registration.content import continued
from covoxel.registration.objective import AffineObjective, AffineSetting, Contents
from covoxel.registration.plausible import implausible
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.affine import AffineParameters

SHAPE = (26, 30, 24)
GRID = Grid.from_spacing(SHAPE, 1.5)
SMALL: dict[str, Any] = {"iterations": (12, 8), "finest_voxels": 4000}


def anatomy(noise: float = 0.0) -> Image:
    draw = np.random.default_rng(0)
    data = gaussian_filter(draw.normal(size=SHAPE), 2.0)
    data = (data - data.min()) / np.ptp(data) * 200 + 20 + noise * draw.normal(size=SHAPE)
    return Image(torch.from_numpy(data), GRID)


def padded(image: Image, pads: Sequence[tuple[int, int]], fill: float | str) -> Image:
    shape = tuple(a + side + b for (a, b), side in zip(pads, image.grid.shape, strict=True))
    draw = np.random.default_rng(1)
    whole = draw.normal(100, 300, shape) if fill == "noise" else np.full(shape, fill)
    whole[tuple(slice(a, a + side) for (a, _), side in zip(pads, image.grid.shape, strict=True))] = image.data.numpy()
    return Image(torch.from_numpy(whole), image.grid.cropped([-a for a, _ in pads], shape))


@pytest.mark.parametrize("fill", [0.0, -1024.0, 77.0, "noise"])
@pytest.mark.parametrize("pads", [((25, 25),) * 3, ((0, 40), (15, 0), (0, 0))])
def test_padding_of_either_image_changes_nothing(fill: float | str, pads: Sequence[tuple[int, int]]) -> None:
    fixed, moving = anatomy(), anatomy(noise=8)
    (plain,) = register("affine", preprocess(fixed), [preprocess(moving)], **SMALL)
    large = preprocess(padded(fixed, pads, fill))
    (found,) = register("affine", large, [preprocess(moving)], **SMALL)
    (other,) = register("affine", preprocess(fixed), [preprocess(padded(moving, pads, fill))], **SMALL)
    assert np.array_equal(found.moving_from_fixed, plain.moving_from_fixed)
    assert np.array_equal(other.moving_from_fixed, plain.moving_from_fixed)
    assert found.grid is large.grid
    points = GRID.to_ras(np.random.default_rng(2).uniform(3, 20, (50, 3)))
    assert np.linalg.norm(found.map(points) - points, axis=1).mean() < 0.5
    assert not found.remark


def test_a_deformation_goes_on_beyond_the_content_without_a_jump() -> None:
    fixed, moving = preprocess(anatomy()), preprocess(anatomy(noise=8))
    large = preprocess(padded(anatomy(), ((10, 12),) * 3, -3000.0))
    settings: dict[str, Any] = {"iterations": (4, 2), "search": False}
    (plain,), (found,) = (register("svf", each, [moving], **settings) for each in (fixed, large))
    assert plain.displacement_mm is not None
    assert found.displacement_mm is not None
    inside = (slice(None), *(slice(10, 10 + side) for side in SHAPE))
    assert torch.equal(found.displacement_mm[inside], plain.displacement_mm)
    assert torch.equal(found.displacement_mm[:, :10], found.displacement_mm[:, 10:11].expand(-1, 10, -1, -1))
    assert torch.equal(found.displacement_mm[..., -12:], found.displacement_mm[..., -13:-12].expand(-1, -1, -1, 12))


def test_what_is_not_cropped_is_not_touched() -> None:
    transform = Transform(GRID, np.eye(4), remark="kept")
    assert continued(transform, Box((0, 0, 0), SHAPE), GRID) is transform
    larger = GRID.cropped((-2, 0, 0), (30, 30, 24))
    assert continued(transform, Box((2, 0, 0), SHAPE), larger).remark == "kept"


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.25, 1.6])
def test_the_measure_counts_what_falls_outside(factor: float) -> None:
    # Images of one value agree wherever they overlap: only what lies outside tells.
    flat = Image(torch.ones(SHAPE), GRID)
    batch = MovingBatch.of([flat], "cpu")
    data = flat.data[None, None]
    compared = AffineObjective(data, GRID, batch, GRID.centre_ras, 1.5, AffineSetting("affine", "mse", 2))
    still = AffineParameters.identity(1, 3)
    scaled = replace(still, log_scale=still.log_scale + float(np.log(factor)))
    for moved, expected in ((still, 1.0), (scaled, min(factor, 1 / factor) ** 3)):
        found = compared.union_agreement(moved, Contents.of(flat, batch), torch.ones(1))
        assert float(found) == pytest.approx(expected, rel=0.15)


def test_what_is_unrelated_has_a_loss_of_its_own_and_what_is_the_same_has_none() -> None:
    image = preprocess(anatomy())
    batch, still = MovingBatch.of([image], "cpu"), AffineParameters.identity(1, 3)
    for similarity, least in (("lncc", 0.7), ("nmi", 0.2)):
        setting = AffineSetting("affine", similarity, 2)
        compared = AffineObjective(image.data[None, None], GRID, batch, GRID.centre_ras, 1.5, setting)
        assert float(compared.unrelated(still) - compared(still)) > least


@pytest.mark.parametrize("noise", [4.0, 10.0])
def test_an_engine_that_is_given_the_padding_does_not_run_away_either(noise: float) -> None:
    wide = preprocess(padded(anatomy(), ((25, 25),) * 3, 0.0))
    batch = MovingBatch.of([preprocess(anatomy(noise=noise))], "cpu")
    with torch.no_grad():
        fixed = Image(wide.data, wide.grid)
    (found,) = engine.affine(fixed, batch)
    points = GRID.to_ras(np.random.default_rng(2).uniform(3, 20, (50, 3)))
    assert np.linalg.norm(found.map(points) - points, axis=1).mean() < 2


def test_a_descent_that_ends_worse_leaves_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    image = preprocess(anatomy())

    def away(objective: AffineObjective, start: AffineParameters, steps: int) -> AffineParameters:
        return replace(start, translation_mm=start.translation_mm + 9)

    monkeypatch.setattr(engine, "descend", away)
    (found,) = register("affine", image, [image], search=False)
    assert np.array_equal(found.moving_from_fixed, np.eye(4))
    assert not found.remark


@pytest.mark.parametrize(("scale", "words"), [((2.6, 1, 1), "scales by 2.6"), ((1.7,) * 3, "changes volumes")])
def test_a_scale_that_no_anatomy_has_is_refused_and_remarked(
    monkeypatch: pytest.MonkeyPatch, scale: tuple[float, ...], words: str
) -> None:
    image = preprocess(anatomy())
    descend = engine.descend

    def blow_up(objective: AffineObjective, start: AffineParameters, steps: int) -> AffineParameters:
        if objective.setting.freedom != "affine":
            return descend(objective, start, steps)
        return replace(start, log_scale=torch.tensor(scale).log()[None].expand_as(start.log_scale))

    monkeypatch.setattr(engine, "descend", blow_up)
    monkeypatch.setattr(AffineObjective, "union_agreement", lambda _, p, *__: p.log_scale.sum(1))
    for found in register("affine", image, [image, preprocess(anatomy(noise=8))], search=False, **SMALL):
        assert not implausible(found.moving_from_fixed)
        assert np.abs(found.moving_from_fixed - np.eye(4)).max() < 0.5
        assert words in found.remark
        assert "no anatomy" in found.remark


@pytest.mark.parametrize(
    ("diagonal", "words"),
    [
        ((1.9, 1.2, 1.2), ""),
        ((0.55, 1.1, 1.1), ""),
        ((2.4, 1, 1), "scales by 2.4"),
        ((0.4, 1, 1), "scales by 0.4"),
        ((1.6, 1.6, 1.6), "changes volumes by a factor of 4.1"),
        ((0.6, 0.6, 0.6), "changes volumes by a factor of 0.22"),
        ((-1, 1, 1), "mirrors"),
        ((2.4, 1), "scales by 2.4"),
    ],
)
def test_which_maps_are_implausible(diagonal: tuple[float, ...], words: str) -> None:
    turn = np.eye(len(diagonal) + 1)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    assert implausible(turn @ np.diag([*diagonal, 1.0]) @ turn.T) == words
