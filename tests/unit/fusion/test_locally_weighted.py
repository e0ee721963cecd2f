"""Locally weighted vote: formulas by hand, windows, masks, and what must not matter."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion import FUSION_RULES, Evidence, fuse
from covoxel.fusion.agreement import disagreement
from covoxel.fusion.likeness import standardised
from covoxel.fusion.source import source_of
from covoxel.fusion.tiling import bounding_window, tiles
from covoxel.fusion.windows import VARIANCE_FLOOR, correlation, window_mean

SETTINGS = [
    {"kernel": "lncc", "radius": 1, "power": 4.0, "search": 0, "appearance": 0.0},
    {"kernel": "ssd", "radius": 1, "power": 2.0, "normalisation_radius": None, "search": 0, "appearance": 0.0},
    {"kernel": "ssd", "radius": 1, "power": 2.0, "normalisation_radius": 2, "search": 0, "appearance": 0.0},
    {"kernel": "ssd", "radius": 1, "power": 2.0, "normalisation_radius": 2, "search": 1, "appearance": 0.0},
    {"kernel": "lncc", "radius": 1, "power": 8.0, "search": 1, "appearance": 0.0},
]


def random_evidence(shape: tuple[int, ...] = (12, 11, 10), atlases: int = 4) -> Evidence:
    fixed = torch.randn(shape)
    moved = fixed + 0.5 * torch.randn(atlases, *shape)
    labels = torch.rand(atlases, 3, *shape) ** 4
    valid = torch.rand(atlases, *shape) > 0.1
    return Evidence(fixed, moved, labels / labels.sum(1, keepdim=True), torch.tensor([0, 1, 2]), valid)


def window(x: Tensor, at: tuple[int, ...], radius: int) -> Tensor:
    return x[tuple(slice(max(0, i - radius), i + radius + 1) for i in at)]


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 7)])
def test_correlation_is_that_of_the_voxels_in_the_window_and_the_view(shape: tuple[int, ...]) -> None:
    fixed, moved, inside = torch.randn(shape), torch.randn(shape), torch.rand(shape) > 0.3
    got = correlation(fixed[None, None], moved[None, None], inside[None, None].float(), 2)[0, 0]
    for at in [(0,) * len(shape), (4, 3, 2)[: len(shape)], tuple(s - 1 for s in shape)]:
        mask = window(inside, at, 2)
        f, m = window(fixed, at, 2)[mask].double(), window(moved, at, 2)[mask].double()
        f, m = f - f.mean(), m - m.mean()
        expected = (f * m).mean() / ((f.square().mean() + VARIANCE_FLOOR) * (m.square().mean() + VARIANCE_FLOOR)).sqrt()
        assert float(got[at]) == pytest.approx(float(expected), abs=1e-5)


def test_a_window_without_a_voxel_inside_has_mean_zero() -> None:
    inside = torch.zeros(1, 1, 9, 9)
    inside[..., 0, 0] = 1
    mean = window_mean(torch.full((1, 1, 9, 9), 5.0), inside, 2)[0, 0]
    assert mean[2, 2] == 5
    assert mean[3, 0] == 0


def test_the_weights_of_the_ssd_kernel_are_the_formula() -> None:
    evidence = random_evidence((7, 7, 7), 3)
    evidence = replace(evidence, valid=torch.ones_like(evidence.valid))
    got = FUSION_RULES["locally_weighted"](
        evidence, kernel="ssd", radius=1, power=2.0, normalisation_radius=None, search=0, appearance=0
    )
    even = standardised(source_of(evidence), (slice(0, 7),) * 3)
    at = (3, 2, 4)
    distance = torch.stack(
        [(window(m, at, 1) - window(even.fixed[0, 0], at, 1)).square().mean() for m in even.moved[:, 0]]
    )
    weight = torch.exp(-2.0 * (distance - distance.min()) / distance.min())
    expected = (weight[:, None] * evidence.labels[:, :, 3, 2, 4]).sum(0) / weight.sum()
    assert_close(got[:, 3, 2, 4], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_intensities_may_be_scaled_and_shifted(settings: dict[str, object]) -> None:
    evidence = random_evidence()
    slope = torch.tensor([0.02, 3.0, 500.0, 1.0]).view(-1, 1, 1, 1)
    other = replace(evidence, fixed=40 * evidence.fixed - 7, moved=slope * evidence.moved + 11)
    first = fuse("locally_weighted", evidence, **settings).probabilities
    assert_close(fuse("locally_weighted", other, **settings).probabilities, first, atol=1e-3, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_atlas_that_looks_alike_wins_on_each_side(settings: dict[str, object]) -> None:
    """Atlas 0 is the image on the left and noise on the right, atlases 1 and 2 the reverse; labels say who spoke."""
    shape = (16, 24)
    generator = torch.Generator().manual_seed(5)
    fixed = torch.randn(shape, generator=generator)
    moved = torch.randn((3, *shape), generator=generator)
    moved[0, :, :12] = fixed[:, :12]
    moved[1:, :, 12:] = fixed[:, 12:]
    labels = torch.zeros(3, 3, *shape)
    labels[0, 1] = 1
    labels[1:, 2] = 1
    evidence = Evidence(fixed, moved, labels, torch.tensor([0, 1, 2]), torch.ones(3, *shape, dtype=torch.bool))
    fused = fuse("locally_weighted", evidence, **settings)
    assert (fused.label_map[:, :10] == 1).float().mean() > 0.99
    assert (fused.label_map[:, 14:] == 2).float().mean() > 0.99
    assert (fuse("majority", evidence).label_map == 2).all()


@pytest.mark.parametrize("settings", SETTINGS)
def test_computing_only_where_atlases_disagree_changes_nothing(settings: dict[str, object]) -> None:
    evidence = random_evidence((20, 19, 18))
    agreed = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
    inner = torch.zeros(20, 19, 18, dtype=torch.bool)
    inner[8:12, 7:13, 9:12] = True
    small = replace(evidence, labels=torch.where(inner, evidence.labels, agreed))
    whole = fuse("locally_weighted", evidence, **settings).probabilities
    part = fuse("locally_weighted", small, **settings).probabilities
    if settings["search"] == 0:
        assert_close(part[:, inner], whole[:, inner], atol=1e-5, rtol=0)
    core = torch.zeros_like(inner)
    core[9:11, 8:12, 10:11] = True
    assert_close(part[:, core], whole[:, core], atol=1e-5, rtol=0)
    assert_close(part[:, ~inner], agreed[0].expand_as(part)[:, ~inner], atol=1e-6, rtol=0)


def test_power_zero_is_majority_vote() -> None:
    evidence = random_evidence()
    expected = fuse("majority", evidence).probabilities
    for settings in SETTINGS[:3]:
        got = fuse("locally_weighted", evidence, **(settings | {"power": 0.0})).probabilities
        assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(30, 28), (16, 15, 14)])
@pytest.mark.parametrize("kernel", ["ssd", "lncc"])
def test_the_search_finds_what_registration_left_one_voxel_away(kernel: str, shape: tuple[int, ...]) -> None:
    """Every atlas is the image moved by a voxel, each another way: within the border, the search undoes it wholly."""
    n = len(shape)
    fixed, truth = torch.randn(shape), (torch.rand(shape) > 0.5).long()
    ways = [tuple(sign if axis == a else 0 for axis in range(n)) for a in range(n) for sign in (1, -1)]
    labels = torch.stack([torch.stack([1 - truth, truth]).float().roll(way, tuple(range(1, n + 1))) for way in ways])
    moved = torch.stack([fixed.roll(way, tuple(range(n))) for way in ways])
    evidence = Evidence(fixed, moved, labels, torch.tensor([0, 1]), torch.ones((len(ways), *shape), dtype=torch.bool))
    settings = {"kernel": kernel, "radius": 1, "power": 50.0, "normalisation_radius": None, "appearance": 0.0}
    inner = (slice(3, -3),) * n
    # Where by chance all atlases agree on the wrong label, nothing is left to weigh.
    undecided = disagreement(evidence)[inner]
    assert undecided.float().mean() > 0.8
    found = fuse("locally_weighted", evidence, search=1, **settings).label_map[inner] == truth[inner]
    assert found[undecided].all()
    lost = fuse("locally_weighted", evidence, search=0, **settings).label_map[inner] == truth[inner]
    assert lost[undecided].float().mean() < 0.8


def test_the_work_done_in_tiles_is_the_work_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = random_evidence((20, 9, 8))
    whole = fuse("locally_weighted", evidence).probabilities
    monkeypatch.setattr("covoxel.fusion.search._WORK", 2**12)
    assert_close(fuse("locally_weighted", evidence).probabilities, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(20, 14), (20, 9, 8)])
def test_tiles_hold_every_voxel_once(shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape) > 0.9
    windows = list(tiles(mask, voxels=5, size=40))
    covered = torch.zeros(shape, dtype=torch.int64)
    for window in windows:
        assert mask[window].numel() <= 40
        assert 0 < mask[window].sum() <= 5
        covered[window] += 1
    assert (covered <= 1).all()
    assert (covered[mask] == 1).all()
    assert len(windows) > 1
    assert len(list(tiles(mask, voxels=10**6, size=10**6))) == 1
    assert list(tiles(torch.zeros(shape, dtype=torch.bool), voxels=8, size=2)) == []


@pytest.mark.parametrize("wrong", [{"kernel": "psnr"}, {"radius": -1}, {"power": -0.5}, {"search": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        fuse("locally_weighted", random_evidence(), **wrong)


def test_disagreement_is_among_those_who_see() -> None:
    evidence = random_evidence((6, 6), 2)
    labels = torch.zeros_like(evidence.labels)
    labels[:, 0] = 1
    labels[1, :, 2:4, 3:5] = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    valid = torch.ones_like(evidence.valid)
    valid[1, 2] = False
    mask = disagreement(replace(evidence, labels=labels, valid=valid))
    assert mask.nonzero().tolist() == [[3, 3], [3, 4]]
    assert bounding_window(mask, margin=2) == (slice(1, 6), slice(1, 6))
    assert bounding_window(torch.zeros(3, 3, dtype=torch.bool)) is None
