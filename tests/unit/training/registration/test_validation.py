"""Validation: the same pairs at any time, of held-out cases, without augmentation, in evaluation mode."""

from dataclasses import replace

import pytest
import torch

from covoxel.training.registration import PairAugmentation, Recipe
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.machine import Machine, make_fabric
from covoxel.training.registration.objective import Objective
from covoxel.training.registration.split import split
from covoxel.training.registration.terms import Terms
from covoxel.training.registration.validation import Validation
from tests.unit.training.registration.toys import recipe, shifted_cases, toy

CASES = shifted_cases((12, 10), 10, labelled=True)


def judged(cases: list[TrainingCase], how: Recipe, network: torch.nn.Module | None = None) -> dict[str, float]:
    network = network or toy(dropout=0.5)
    machine = Machine(network, Objective(how, Terms(how, (1.0, 1.0))), how, make_fabric(torch.device("cpu"), "32-true"))
    return Validation(cases, split(cases, how), how, 2).judge(network, machine)


@pytest.mark.parametrize("supervision", ["images", "labels", "warps"])
def test_it_says_the_same_whatever_was_drawn_before_and_draws_nothing(supervision: str) -> None:
    how = recipe(supervision=supervision, held_out=0.3)
    first = judged(CASES, how)
    torch.rand(5)
    state = torch.get_rng_state()
    network = toy(dropout=0.5)
    torch.set_rng_state(state)
    assert judged(CASES, how, network) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert first["loss"] == pytest.approx(sum(value for name, value in first.items() if name != "loss"))
    expected = {"images": {"similarity"}, "labels": {"similarity", "labels"}, "warps": {"warps"}}[supervision]
    assert first.keys() == {"loss", "regularity"} | expected


def test_it_is_of_held_out_cases_as_they_are() -> None:
    how = recipe(held_out=0.3)
    judging = set(split(CASES, how).judging)
    strong = replace(how, augmentation=PairAugmentation(gain=2.0, noise=1.0, warp_vox=5.0))
    assert judged(CASES, strong) == judged(CASES, how)
    for others in (True, False):
        changed = [
            replace(case, image=case.image * 2) if (place in judging) != others else case
            for place, case in enumerate(CASES)
        ]
        assert (judged(changed, how) == judged(CASES, how)) is others


def test_few_labels_judge_where_they_teach_and_that_is_noted() -> None:
    how = recipe(supervision="labels", held_out=0.3)
    few = [case if place < 4 else replace(case, labels=None) for place, case in enumerate(CASES)]
    parts = split(few, how)
    validation = Validation(few, parts, how, 2)
    assert validation.notes == ["labels are too few to hold any out: those that teach were judged on as well"]
    assert {place for pair in validation._labelled for place in (pair.fixed, pair.moving)} <= set(range(4))
    assert {place for pair in validation._pairs for place in (pair.fixed, pair.moving)} <= set(parts.judging)
    assert judged(few, how)["labels"] > 0
    assert not Validation(CASES, split(CASES, how), how, 2).notes
