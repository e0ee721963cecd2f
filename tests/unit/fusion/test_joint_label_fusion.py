"""Joint label fusion: its weights by hand, copies that count once, and what must not matter."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion import Evidence, fuse
from covoxel.fusion.likeness import standardised
from covoxel.fusion.simplex import least_cost_weights
from covoxel.fusion.source import source_of
from covoxel.fusion.tiling import whole_window

PLAIN = {"search": 0, "likeness": 0.0, "spread": 0, "appearance": 0.0, "normalisation_radius": None}


def random_evidence(shape: tuple[int, ...] = (12, 11, 10), atlases: int = 4, seen: float = 0.9) -> Evidence:
    fixed = torch.randn(shape)
    moved = fixed + 0.5 * torch.randn(atlases, *shape)
    labels = torch.rand(atlases, 3, *shape) ** 4
    valid = torch.rand(atlases, *shape) < seen
    return Evidence(fixed, moved, labels / labels.sum(1, keepdim=True), torch.tensor([0, 1, 2]), valid)


def window(x: Tensor, at: tuple[int, ...], radius: int) -> Tensor:
    return x[(..., *(slice(max(0, i - radius), i + radius + 1) for i in at))]


@pytest.mark.parametrize("shape", [(9, 8), (8, 7, 9)])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_the_weights_are_the_formula(shape: tuple[int, ...], beta: float) -> None:
    evidence = random_evidence(shape, 5, seen=1.1)
    got = fuse("joint_label_fusion", evidence, **PLAIN, radius=1, alpha=0.03, beta=beta).probabilities
    even = standardised(source_of(evidence), whole_window(tuple(evidence.fixed.shape)))
    for at in [(4, 3, 2)[: len(shape)], (5, 5, 5)[: len(shape)]]:
        errors = (window(even.moved[:, 0], at, 1) - window(even.fixed[0, 0], at, 1)).flatten(1).abs().double()
        shared = (errors @ errors.T / errors.shape[1]) ** beta + 0.03 * torch.eye(5)
        weights = least_cost_weights(shared[None])[0].float()
        expected = (weights[:, None] * evidence.labels[(slice(None), slice(None), *at)]).sum(0)
        assert_close(got[(slice(None), *at)], expected, atol=1e-5, rtol=0)


def test_likeness_tells_small_errors_apart() -> None:
    """Where alpha is beyond all errors, weights are those of the likeness alone: an atlas as near as the nearest 1."""
    evidence = random_evidence((9, 8), 3, seen=1.1)
    got = fuse("joint_label_fusion", evidence, **(PLAIN | {"likeness": 2.0}), radius=1, alpha=1e9).probabilities
    settings = {"search": 0, "appearance": 0.0, "normalisation_radius": None, "radius": 1, "power": 2.0}
    expected = fuse("locally_weighted", evidence, **settings).probabilities
    assert_close(got, expected, atol=1e-5, rtol=0)


def test_weights_hold_for_the_window_they_were_found_in() -> None:
    """Spread by one: the labels of the middle are weighed by the sum of the weights of all nine voxels."""
    evidence = random_evidence((7, 7), 4, seen=1.1)
    onehot = torch.eye(4)[:, :, None, None].expand(4, 4, 7, 7)
    evidence = replace(evidence, labels=onehot, values=torch.arange(4))
    plain = PLAIN | {"alpha": 0.03, "radius": 1}
    alone = fuse("joint_label_fusion", evidence, **plain).probabilities
    spread = fuse("joint_label_fusion", evidence, **(plain | {"spread": 1})).probabilities
    assert_close(spread[:, 3, 4], window(alone, (3, 4), 1).mean((1, 2)), atol=1e-5, rtol=0)
    assert_close(spread[:, 0, 0], window(alone, (0, 0), 1).mean((1, 2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [2, 3])
def test_weights_are_found_on_a_lattice_and_a_voxel_far_from_it_has_its_own(stride: int) -> None:
    """All undecided: the sum over the lattice's voxels nearby. One undecided voxel off the lattice: its own."""
    evidence = random_evidence((9, 8), 4, seen=1.1)
    onehot = torch.eye(4)[:, :, None, None].expand(4, 4, 9, 8)
    evidence = replace(evidence, labels=onehot, values=torch.arange(4))
    plain = PLAIN | {"alpha": 0.03, "radius": 1}
    alone = fuse("joint_label_fusion", evidence, **plain).probabilities
    sparse = fuse("joint_label_fusion", evidence, **(plain | {"spread": 1, "stride": stride})).probabilities
    for at in [(3, 4), (5, 5), (4, 4), (8, 7)]:
        near = [(i, j) for i in range(9) for j in range(8) if max(abs(i - at[0]), abs(j - at[1])) <= 1]
        lattice = [alone[:, i, j] for i, j in near if i % stride == 0 and j % stride == 0] or [alone[:, *at]]
        assert_close(sparse[:, *at], torch.stack(lattice).mean(0), atol=1e-5, rtol=0)
    agreed = onehot[:1].expand(4, 4, 9, 8).clone()
    agreed[:, :, 5, 7] = torch.eye(4)
    one = replace(evidence, labels=agreed)
    sparse = fuse("joint_label_fusion", one, **(plain | {"spread": 1, "stride": stride})).probabilities
    assert_close(sparse[:, 5, 7], alone[:, 5, 7], atol=1e-5, rtol=0)


def test_copies_of_an_atlas_have_one_vote_between_them() -> None:
    """Four of one against one of another, both as far from the image: half the vote each, but by majority 4 to 1."""
    shape = (16, 15, 14)
    evidence = random_evidence(shape, 2, seen=1.1)
    labels = torch.zeros(2, 2, *shape)
    labels[0, 0] = labels[1, 1] = 1
    order = torch.tensor([0, 0, 0, 0, 1])
    copies = Evidence(evidence.fixed, evidence.moved[order], labels[order], torch.tensor([0, 1]), evidence.valid[order])
    settings = PLAIN | {"alpha": 1e-5, "radius": 3}
    joint = fuse("joint_label_fusion", copies, **settings).probabilities[1]
    alone = replace(evidence, labels=labels, values=torch.tensor([0, 1]))
    assert_close(joint, fuse("joint_label_fusion", alone, **settings).probabilities[1], atol=1e-3, rtol=0)
    assert 0.4 < float(joint.mean()) < 0.6
    assert float(fuse("locally_weighted", copies, search=0, appearance=0.0).probabilities[1].mean()) < 0.3


def test_intensities_may_be_scaled_and_shifted() -> None:
    evidence = random_evidence()
    slope = torch.tensor([0.02, 3.0, 500.0, 1.0]).view(-1, 1, 1, 1)
    other = replace(evidence, fixed=40 * evidence.fixed - 7, moved=slope * evidence.moved + 11)
    first = fuse("joint_label_fusion", evidence, appearance=0.0).probabilities
    assert_close(fuse("joint_label_fusion", other, appearance=0.0).probabilities, first, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(30, 28), (16, 15, 14)])
def test_the_search_finds_what_registration_left_one_voxel_away(shape: tuple[int, ...]) -> None:
    n = len(shape)
    fixed, truth = torch.randn(shape), (torch.rand(shape) > 0.5).long()
    ways = [tuple(sign if axis == a else 0 for axis in range(n)) for a in range(n) for sign in (1, -1)]
    labels = torch.stack([torch.stack([1 - truth, truth]).float().roll(way, tuple(range(1, n + 1))) for way in ways])
    moved = torch.stack([fixed.roll(way, tuple(range(n))) for way in ways])
    evidence = Evidence(fixed, moved, labels, torch.tensor([0, 1]), torch.ones((len(ways), *shape), dtype=torch.bool))
    inner = (slice(3, -3),) * n
    undecided = (labels.amax(0) - labels.amin(0)).amax(0)[inner] > 0
    settings = PLAIN | {"radius": 1, "power": 50.0}
    found = fuse("joint_label_fusion", evidence, **(settings | {"search": 1})).label_map[inner] == truth[inner]
    assert found[undecided].all()
    lost = fuse("joint_label_fusion", evidence, **settings).label_map[inner] == truth[inner]
    assert lost[undecided].float().mean() < 0.8


@pytest.mark.parametrize("spread", [0, 1, 2])
def test_the_work_done_in_tiles_is_the_work_done_at_once(monkeypatch: pytest.MonkeyPatch, spread: int) -> None:
    evidence = random_evidence((12, 9, 8))
    inner = torch.zeros(12, 9, 8, dtype=torch.bool)
    inner[1:10, 2:9, :6] = torch.rand(9, 7, 6) > 0.4
    agreed = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
    evidence = replace(evidence, labels=torch.where(inner, evidence.labels, agreed))
    settings = {"spread": spread, "appearance": 0.0}
    whole = fuse("joint_label_fusion", evidence, **settings).probabilities
    monkeypatch.setattr("covoxel.fusion.search._WORK", 2**14)
    monkeypatch.setattr("covoxel.fusion.joint_label_fusion._WORK", 2**12)
    assert_close(fuse("joint_label_fusion", evidence, **settings).probabilities, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"alpha": math.nan},
        {"beta": -1.0},
        {"power": -1.0},
        {"likeness": -1.0},
        {"spread": -1},
        {"radius": -1},
        {"search": -1},
        {"normalisation_radius": -1},
        {"appearance": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}.* must"):
        fuse("joint_label_fusion", random_evidence(), **wrong)
