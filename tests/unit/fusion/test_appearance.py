"""The intensity model: counted by hand, blind to contrast, and decisive where votes are split."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from covoxel.fusion import Evidence, fuse
from covoxel.fusion.appearance import learnt_appearance
from covoxel.fusion.descriptors import Places, descriptors
from covoxel.fusion.source import source_of
from covoxel.fusion.survey import Votes
from covoxel.fusion.tiling import whole_window


def score(evidence: Evidence) -> torch.Tensor:
    everywhere = torch.ones_like(evidence.valid[0])
    usual = (evidence.labels * evidence.valid[:, None]).double().transpose(0, 1).flatten(1).sum(1)
    learnt = learnt_appearance(source_of(evidence), Votes(everywhere, usual, torch.zeros(0), torch.zeros(0)))
    return learnt.score(whole_window(tuple(everywhere.shape)), everywhere, torch.arange(len(evidence.values)))


def test_ranks_are_shares_of_the_voxels_that_count() -> None:
    """Of 10 x 10 voxels in order of their number, the last 20 beyond the view and every other one described."""
    image = torch.arange(100.0).view(10, 10).exp2()
    inside = torch.ones(10, 10, dtype=torch.bool)
    inside[8:] = False
    voxels = torch.zeros(10, 10, dtype=torch.bool)
    voxels[:, ::2] = True
    got = descriptors(image, inside, voxels)
    assert got.shape == (50, 4)
    assert_close(got[:40, 0], (torch.arange(40) + 0.5) / 40)


def test_what_lies_beyond_the_view_is_not_looked_at() -> None:
    image, inside = torch.randn(12, 11, 10), torch.rand(12, 11, 10) > 0.2
    everywhere = torch.ones_like(inside)
    other = torch.where(inside, image, 1e6 * torch.randn(12, 11, 10))
    assert torch.equal(descriptors(other, inside, everywhere), descriptors(image, inside, everywhere))


def test_places_are_standardised_with_all_their_products() -> None:
    voxels = torch.rand(9, 8, 7) > 0.5
    got = Places(voxels).of(slice(None))
    assert got.shape == (int(voxels.sum()), 9)
    assert_close(got[:, :3].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(got[:, :3].square().mean(0), torch.ones(3), atol=1e-4, rtol=0)
    products = {
        (got[:, 3:].T - got[:, a] * got[:, b]).abs().amax(1).argmin().item() for a in range(3) for b in range(3)
    }
    assert len(products) == 6
    assert_close(Places(torch.ones(1, 6, dtype=torch.bool)).of(slice(None))[:, 0], torch.zeros(6))


def test_atlases_are_learnt_from_where_they_see_alone() -> None:
    evidence = scene()[0]
    evidence.valid[1] = False
    other = replace(evidence, moved=evidence.moved.clone(), labels=evidence.labels.clone())
    other.moved[1], other.labels[1] = 1e3, 0.5
    assert torch.equal(score(evidence), score(other))


def test_labels_whose_looks_are_alike_are_equally_likely() -> None:
    """However many vote for them: one atlas in five that look the same, so that the others' votes are wrong for it."""
    shape = (14, 13, 12)
    labels = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]]).view(5, 2, 1, 1, 1).expand(5, 2, *shape)
    valid = torch.ones((5, *shape), dtype=torch.bool)
    same = torch.randn(shape).expand(5, *shape)
    evidence = Evidence(torch.randn(shape), same, labels, torch.tensor([0, 1]), valid)
    assert_close(score(evidence), torch.zeros(2, 14 * 13 * 12), atol=1e-5, rtol=0)


def scene(shape: tuple[int, ...] = (24, 22, 20)) -> tuple[Evidence, torch.Tensor]:
    """A bright box in noise; atlases that are the image itself, with the box's labels a voxel off, each another way."""
    truth = torch.zeros(shape, dtype=torch.int64)
    truth[7:17, 6:15, 6:14] = 1
    fixed = truth + 0.25 * torch.randn(shape)
    ways = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    moved = torch.stack([fixed.roll(way, (0, 1, 2)) for way in ways])
    labels = torch.stack([torch.stack([1 - truth, truth]).float().roll(way, (1, 2, 3)) for way in ways])
    valid = torch.ones((6, *shape), dtype=torch.bool)
    return Evidence(fixed, moved, labels, torch.tensor([0, 1]), valid), truth


def test_intensities_decide_where_votes_are_split() -> None:
    evidence, truth = scene()
    wrong = {
        exponent: int((fuse("locally_weighted", evidence, power=0.0, appearance=exponent).label_map != truth).sum())
        for exponent in (0.0, 1.0)
    }
    assert wrong[1.0] < 0.6 * wrong[0.0]


def test_a_change_of_contrast_changes_nothing() -> None:
    evidence, _ = scene()
    first = fuse("locally_weighted", evidence, power=0.0)
    bent = replace(evidence, fixed=torch.exp(2 * evidence.fixed), moved=evidence.moved.clone())
    bent.moved[2] = torch.sinh(evidence.moved[2])
    assert_close(fuse("locally_weighted", bent, power=0.0).probabilities, first.probabilities, atol=1e-3, rtol=0)


def test_a_negative_exponent_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        fuse("locally_weighted", scene()[0], appearance=-1.0)
