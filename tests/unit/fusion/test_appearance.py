"""The intensity model: counted by hand, blind to contrast, and decisive where votes are split."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from covoxel.fusion import Evidence, fuse
from covoxel.fusion.appearance import appearance_likelihood


def test_the_likelihood_is_the_share_of_votes_with_ten_more_a_bin() -> None:
    """1000 voxels, one atlas: background below the median and label 1 above it, of two bins."""
    intensities = torch.arange(1000.0)[torch.randperm(1000)]
    above = (intensities >= 500).float()
    labels = torch.stack([1 - above, above])[None]
    got = appearance_likelihood(intensities, intensities[None], labels, torch.ones(1, 1000, dtype=torch.bool), bins=2)
    likely, unlikely = 2 * 510 / 520, 2 * 10 / 520
    assert_close(got[1], torch.where(above > 0, likely, unlikely))
    assert_close(got[0], torch.where(above > 0, unlikely, likely))


def test_atlases_are_counted_where_they_see_alone() -> None:
    moved, labels = torch.randn(2, 600), torch.rand(2, 3, 600)
    valid = torch.ones(2, 600, dtype=torch.bool)
    valid[1] = False
    fixed = torch.randn(600)
    alone = appearance_likelihood(fixed, moved[:1], labels[:1], valid[:1])
    assert torch.equal(appearance_likelihood(fixed, moved, labels, valid), alone)


def test_labels_whose_intensities_are_alike_are_equally_likely() -> None:
    """However many vote for them: one in four here, and no bin is the less even for chance."""
    intensities = torch.randn(500)
    labels = torch.tensor([0.75, 0.25])[:, None].expand(1, 2, 500)
    got = appearance_likelihood(intensities, intensities[None], labels, torch.ones(1, 500, dtype=torch.bool))
    assert_close(got[0], got[1])


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
