"""Pairs: augmented images, masks and labels move alike; synthetic warps are known exactly and read one image alone."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from covoxel.spatial import warp
from covoxel.training.registration import PairAugmentation, WarpSettings
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.pairs import augmented_pairs, plain_pairs, repaint, sample_all
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.warps import synthetic_pairs
from tests.unit.training.registration.toys import blob

STILL = PairAugmentation(0, 0, 0, 0, 8.0, 0, 0)
MOVING = replace(STILL, rotation_rad=0.2, shift=0.05, warp_vox=1.0)
SHAPES = [(20, 24), (12, 14, 16)]


def cases_of(shape: tuple[int, ...], count: int = 4) -> list[TrainingCase]:
    """Blobs; the label is where the image is above a half, and the mask leaves the first planes out."""
    cases = []
    for index in range(count):
        image = blob(shape, torch.tensor([(side - 1) / 2 + index for side in shape]), 3.0)
        mask = torch.ones(shape, dtype=torch.bool)
        mask[:3] = False
        cases.append(TrainingCase(f"c{index}", image, mask, (image > 0.5).long()))
    return cases


CHOSEN = [Chosen(0, 1, True), Chosen(2, 3, True), Chosen(1, 2), Chosen(3, 0)]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_augmentation_leaves_the_pairs_as_they_are(shape: tuple[int, ...]) -> None:
    cases = cases_of(shape)
    plain = plain_pairs(cases, CHOSEN, 3, "cpu")
    augmented = augmented_pairs(cases, CHOSEN, 3, STILL, source(), "cpu")
    assert plain.labelled == 2
    assert plain.fixed_labels.shape == (2, 2, *shape)
    for name, part in plain.tensors().items():
        assert_close(augmented.tensors()[name], part, atol=1e-4, rtol=1e-4)
    for row, pair in enumerate(CHOSEN):
        assert torch.equal(plain.fixed[row, 0], cases[pair.fixed].image)
        assert torch.equal(plain.moving[row, 0], cases[pair.moving].image)
        assert torch.equal(plain.moving_mask[row, 0].bool(), cases[pair.moving].mask)
    assert torch.equal(plain.moving_labels[1, 0].long(), cases[3].labels)
    assert not plain.moving_labels[:, 1].any()  # no voxel has the second label


@pytest.mark.parametrize("shape", SHAPES)
def test_one_image_of_each_pair_moves_with_all_it_has(shape: tuple[int, ...]) -> None:
    cases = cases_of(shape)
    moved_sides = set()
    for seed in range(4):
        plain = plain_pairs(cases, CHOSEN, 2, "cpu")
        pairs = augmented_pairs(cases, CHOSEN, 2, MOVING, source(seed), "cpu")
        for row in range(len(CHOSEN)):
            moves = [
                not torch.allclose(one[row], other[row], atol=1e-3)
                for one, other in ((pairs.fixed, plain.fixed), (pairs.moving, plain.moving))
            ]
            assert sum(moves) == 1
            moved_sides.add(tuple(moves))
        for image, labels in ((pairs.fixed, pairs.fixed_labels), (pairs.moving, pairs.moving_labels)):
            bright, label = image[:2] > 0.5, labels > 0.5
            assert 2 * (bright & label).sum() > 0.85 * (bright.sum() + label.sum()) > 30
    assert len(moved_sides) == 2


def test_what_moves_in_from_outside_is_not_in_the_mask() -> None:
    image = torch.arange(6.0)[None, None, :, None].expand(1, 1, 6, 5)
    axes = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    for shift, lost in ((2.0, [4, 5]), (-2.0, [0, 1])):
        at = torch.stack(axes)[None] + torch.tensor([shift, 0.0]).view(1, 2, 1, 1)
        moved, mask, labels = sample_all(image, torch.ones_like(image), image.new_zeros(0, 2, 6, 5), at)
        expected = torch.ones(6)
        expected[lost] = 0
        assert torch.equal(mask[0, 0, :, 0], expected)
        assert moved[0, 0, lost, 0].tolist() == [5.0 if shift > 0 else 0.0] * 2  # continued
        assert labels.shape == (0, 2, 6, 5)


def test_the_mask_has_no_gradient_and_the_image_and_labels_have() -> None:
    at = (torch.rand(1, 2, 6, 6) * 5).requires_grad_()
    for index, expected in ((0, True), (1, False), (2, True)):
        part = sample_all(torch.rand(1, 1, 6, 6), torch.rand(1, 1, 6, 6), torch.rand(1, 2, 6, 6), at)[index]
        assert part.requires_grad is expected


def test_intensities_change_as_was_asked_and_each_image_by_itself() -> None:
    image = torch.rand(200, 1, 12, 12)
    assert torch.equal(repaint(image, STILL, source()), image)
    painted = repaint(image, replace(STILL, gain=0.1), source())
    slope = (painted[:, 0, 1, 1] - painted[:, 0, 0, 0]) / (image[:, 0, 1, 1] - image[:, 0, 0, 0])
    assert 0.07 < float(slope.log().std()) < 0.13
    noise = (repaint(image, replace(STILL, noise=0.2), source()) - image).flatten(1).std(1)
    assert noise.max() < 0.25
    assert 0.08 < float(noise.mean()) < 0.12
    assert torch.equal(repaint(image, MOVING, source(3)), repaint(image, MOVING, source(3)))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_known_displacement_lays_moving_on_fixed(shape: tuple[int, ...]) -> None:
    cases = cases_of(shape)
    pairs = synthetic_pairs(cases, WarpSettings(warp_vox=1.5), STILL, source(), "cpu")
    assert pairs.truth_vox is not None
    assert pairs.truth_vox.abs().amax() > 1.5
    mask = pairs.fixed_mask
    before = ((pairs.fixed - pairs.moving) * mask).square().mean()
    after = ((pairs.fixed - warp(pairs.moving, pairs.truth_vox)) * mask).square().mean()
    assert after < 0.05 * before
    backwards = ((pairs.fixed - warp(pairs.moving, -pairs.truth_vox)) * mask).square().mean()
    assert backwards > before / 2


def test_synthetic_warps_read_neither_labels_nor_another_image() -> None:
    cases = cases_of((20, 24))
    made, again, other = (
        synthetic_pairs(some, WarpSettings(), MOVING, source(), "cpu")
        for some in (
            cases[:2],
            [cases[0], replace(cases[1], labels=None)],
            [cases[0], replace(cases[1], image=cases[3].image)],
        )
    )
    assert made.labelled == 0
    for name, part in made.tensors().items():
        assert torch.equal(part, again.tensors()[name])
    assert torch.equal(made.fixed[0], other.fixed[0])
    assert torch.equal(made.moving[0], other.moving[0])
    assert not torch.equal(made.moving[1], other.moving[1])


def test_still_pairs_differ_in_intensities_alone() -> None:
    pairs = synthetic_pairs(cases_of((20, 24)), WarpSettings(), STILL, source(), "cpu", still=True)
    assert pairs.truth_vox is not None
    assert not pairs.truth_vox.any()
    assert torch.equal(pairs.fixed, pairs.moving)
    painted = synthetic_pairs(cases_of((20, 24)), WarpSettings(), PairAugmentation(), source(), "cpu", still=True)
    assert not torch.equal(painted.fixed, painted.moving)


def test_rows_and_exchange_keep_what_belongs_together() -> None:
    pairs = plain_pairs(cases_of((20, 24)), CHOSEN, 2, "cpu")
    some = pairs.rows(slice(1, 3))
    assert (len(some), some.labelled) == (2, 1)
    assert torch.equal(some.moving_labels[0], pairs.moving_labels[1])
    back = pairs.exchanged
    assert torch.equal(back.fixed, pairs.moving)
    assert torch.equal(back.moving_labels, pairs.fixed_labels)
    assert torch.equal(back.moving_mask, pairs.fixed_mask)
