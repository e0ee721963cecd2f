"""Scores of a joint network: the mean of what it says with each moving case, whose labels it sees."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint_net import score_pairs
from covoxel.training.registration import TrainingCase
from tests.unit.training.joint_net.toys import FIXED, FIXED_LABELS, MOVING, Joint, case
from tests.unit.training.registration.toys import Said


class Copies(nn.Module):
    """Says the moving labels of the fixed image, as surely as `sure`."""

    def __init__(self, sure: float = 0.9) -> None:
        super().__init__()
        self.sure = sure
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
        assert moving_labels is not None
        self.asked.append((fixed, moving))
        said = moving_labels * (self.sure + moving.mean() / 100) + (1 - moving_labels) * (1 - self.sure)
        return Joint(Said(torch.cat([fixed, fixed], 1)), said.log())


ONE, TWO, THREE = [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]
MOVE = [case(name, MOVING, labels) for name, labels in (("a", ONE), ("b", TWO), ("c", THREE))]


def test_what_is_scored_is_the_mean_over_the_moving_cases() -> None:
    """All three say voxel 0, and one each of the next: the mean is that of a vote."""
    network = Copies()
    scores = score_pairs(network, [case("f", FIXED, FIXED_LABELS)], MOVE, 2)
    assert list(scores.index) == ["f"]
    assert list(scores.columns) == [1]
    assert scores.loc["f", 1] == 1
    assert len(network.asked) == 3
    assert all(torch.equal(fixed[0, 0, 0], torch.tensor(FIXED).float()) for fixed, _ in network.asked)
    single = score_pairs(network, [case("f", FIXED, FIXED_LABELS)], MOVE[:1], 2)
    assert single.loc["f", 1] == pytest.approx(2 / 3)
    assert not network.training


def test_a_case_is_never_its_own_moving_case_and_unlabelled_ones_do_not_count() -> None:
    network = Copies()
    scores = score_pairs(network, [*MOVE, case("u", FIXED, None)], [*MOVE, case("v", MOVING, None)], 2)
    assert list(scores.index) == ["a", "b", "c"]
    assert len(network.asked) == 6
    with pytest.raises(ValueError, match="case a: a labelled moving case of another subject is needed to score it"):
        score_pairs(network, MOVE[:1], MOVE[:1], 2)


def test_pairs_are_of_other_subjects_or_within_one() -> None:
    visits = [replace(each, subject=subject) for each, subject in zip(MOVE, ("p", "p", "q"), strict=True)]
    network = Copies()
    score_pairs(network, visits[:1], visits, 2)
    assert len(network.asked) == 1
    score_pairs(network, visits[:2], visits, 2, pairs="within")
    assert len(network.asked) == 3
    with pytest.raises(ValueError, match="case c: a labelled moving case of the same subject is needed"):
        score_pairs(network, visits[2:], visits, 2, pairs="within")


def test_labels_that_a_case_has_not_are_no_number_and_the_mask_is_what_counts() -> None:
    mask = torch.ones((2, 6), dtype=torch.bool)
    mask[:, 1] = False
    fixed = case("f", FIXED, FIXED_LABELS)
    fixed = TrainingCase("f", fixed.image, mask, fixed.labels)
    scores = score_pairs(Copies(), [fixed], MOVE[:1], 4)
    assert scores.loc["f", 1] == 1  # voxel 1 was wrong
    assert math.isnan(scores.loc["f", 2])
