"""Pairs that judge: held-out fixed cases, and moving ones that teach or, within a subject, are held out with them."""

from dataclasses import replace

from covoxel.training.joint import train_joint
from covoxel.training.joint.material import Material
from covoxel.training.joint.validation import PAIRS, judging_pairs
from tests.unit.training.joint.toys import SHAPE, recipe, segmenter
from tests.unit.training.registration.toys import shifted_cases, toy

VISITS = shifted_cases(SHAPE, 3, labelled=True)
"""Two of each subject, one after the other."""


def test_between_subjects_moving_cases_are_those_that_teach() -> None:
    some = [replace(case, labels=None) if case.id == "p2v1" else case for case in VISITS]
    pairs = judging_pairs(Material(some, 2), ("p0v0", "p0v1"), "inter", 0)
    assert sorted((pair.fixed, pair.moving) for pair in pairs) == [(f, m) for f in (0, 1) for m in (2, 3, 4)]
    assert judging_pairs(Material(some, 2), (), "inter", 0) == []


def test_within_a_subject_its_held_out_visits_judge_each_other() -> None:
    pairs = judging_pairs(Material(VISITS, 2), ("p0v0", "p0v1"), "within", 0)
    assert sorted((pair.fixed, pair.moving) for pair in pairs) == [(0, 1), (1, 0)]


def test_the_same_few_of_many_pairs_judge_each_time() -> None:
    many = shifted_cases(SHAPE, 8, labelled=True)
    judging = [case.id for case in many[:8]]
    first, again, other = (judging_pairs(Material(many, 2), judging, "inter", seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == len(set(first)) == PAIRS


def test_registration_within_subjects_is_judged_in_the_joint_phase() -> None:
    how = recipe(held_out=1, registration=replace(recipe().registration, pairs="within"))
    trained = train_joint(toy(), segmenter(), VISITS, how, values=2)
    assert len(trained.judging) == 2
    assert trained.curve["validation_registration_labels"][trained.curve["phase"] == "joint"].notna().all()
