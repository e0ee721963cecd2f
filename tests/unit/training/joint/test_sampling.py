"""Pairs and images of a step: the shares of each kind, its fallback, and that nobody is paired with himself."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from covoxel.training.joint import FusedLabels
from covoxel.training.joint.batch import images_of, pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint.sampling import JointSampler
from covoxel.training.registration import PairAugmentation, TrainingCase
from covoxel.training.registration.sampling import Chosen
from covoxel.training.seeds import generator
from tests.unit.training.joint.toys import cases, recipe
from tests.unit.training.registration.toys import shifted_cases


def kinds(some: list[TrainingCase], chosen: list[Chosen]) -> list[int]:
    return [sum(some[place].labels is not None for place in (pair.fixed, pair.moving)) for pair in chosen]


def drawn(sampler: JointSampler, updates: int = 100) -> list[list[Chosen]]:
    return [sampler.registration(generator(0, update), update) for update in range(updates)]


def test_pairs_have_the_shares_of_the_recipe_and_those_with_most_labels_come_first() -> None:
    some = cases([0, 1, 2], people=20)
    registration = replace(recipe().registration, batch=4)
    how = recipe(registration=registration, labelled_share=0.25, half_labelled_share=0.5)
    steps = drawn(JointSampler(Material(some, 2), how))
    found = Counter(kind for step in steps for kind in kinds(some, step))
    assert 100 <= found[2] <= 105
    assert 200 <= found[1] <= 225
    assert found[0] > 70
    assert all(kinds(some, step) == sorted(kinds(some, step), reverse=True) for step in steps)
    assert all(pair.fixed != pair.moving for step in steps for pair in step)


@pytest.mark.parametrize(("labelled", "expected"), [([0], {1}), ([], {0}), (range(40), {2})])
def test_a_kind_that_does_not_exist_leaves_its_share_to_the_next(labelled: list[int], expected: set[int]) -> None:
    some = cases(labelled, people=20)
    sampler = JointSampler(Material(some, 2), recipe(labelled_share=0.5, half_labelled_share=0.5))
    assert {kind for step in drawn(sampler, 30) for kind in kinds(some, step)} == expected
    assert sampler.has_half_labelled == (expected == {1})


def test_the_segmenter_gets_pairs_with_one_label_on_either_side() -> None:
    some = cases([0, 1], people=5)
    sampler = JointSampler(Material(some, 2), recipe())
    pairs = [pair for step in range(50) for pair in sampler.half_labelled(generator(step))]
    assert set(kinds(some, pairs)) == {1}
    assert {some[pair.fixed].labels is None for pair in pairs} == {True, False}
    assert len({pair.fixed if some[pair.fixed].labels is None else pair.moving for pair in pairs}) == 8


def test_pairs_within_are_of_one_subject() -> None:
    some = [replace(c, labels=None if "v1" in c.id else c.labels) for c in shifted_cases((12, 10), 4, labelled=True)]
    how = recipe(registration=replace(recipe().registration, pairs="within"))
    sampler = JointSampler(Material(some, 2), how)
    pairs = [pair for step in drawn(sampler, 20) for pair in step] + sampler.half_labelled(generator(1))
    assert all(some[pair.fixed].subject == some[pair.moving].subject for pair in pairs)
    strangers = [replace(case, subject=case.id) for case in some]
    with pytest.raises(ValueError, match="two cases of one subject to make a pair, got 8 cases of 8 subjects"):
        JointSampler(Material(strangers, 2), how).check_pairs()


def test_half_of_the_images_have_fused_labels_if_there_are_such() -> None:
    some = cases([0, 1])
    material = Material(some, 2, {"p2v0": FusedLabels((some[4].image > 0.5).long())})
    for weight, share in ((1.0, 0.5), (0.0, 0.0)):
        sampler = JointSampler(material, recipe(fused_weight=weight))
        images = [one for step in range(40) for one in sampler.images(generator(step), step)]
        assert all(one.fixed == one.moving for one in images)
        assert sum(one.fixed == 4 for one in images) == share * len(images)
        assert {one.fixed for one in images} <= {0, 1, 4}


def test_labels_and_confidence_are_warped_with_their_image() -> None:
    """The image is its own label and confidence: wherever a warp takes it, all three stay alike."""
    some = [replace(case, labels=None, image=case.image.round()) for case in cases()]
    fused = {c.id: FusedLabels(torch.stack([1 - c.image, c.image]), c.image) for c in some}
    material = Material(some, 2, fused)
    how = PairAugmentation(noise=0, gain=0, warp_vox=2.0)
    images = images_of(material, [0, 1, 2], "cpu", how, generator(3))
    pairs = pairs_of(material, [Chosen(0, 1), Chosen(2, 3)], "cpu", how, generator(4))
    changed = 0
    for side, places in ((images, [0, 1, 2]), (pairs.fixed, [0, 2]), (pairs.moving, [1, 3])):
        assert torch.equal(side.image, side.labels)
        assert torch.equal(side.image, side.weight)
        changed += sum(not torch.equal(side.image[row, 0], some[place].image) for row, place in enumerate(places))
    assert changed == 3 + 2  # of a pair one image is warped
    assert len(pairs.rows(slice(1))) == 1
    assert images.at([2]).given == images.given[2:]
