"""Who teaches, who judges, and who is paired with whom."""

from collections import Counter
from dataclasses import replace

import pytest

from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.sampling import PairSampler
from covoxel.training.registration.split import split
from tests.unit.training.registration.toys import recipe, shifted_cases

CASES = shifted_cases((5, 4), 12, labelled=True)
PLACES = range(len(CASES))


def few_labelled(labelled: int) -> list[TrainingCase]:
    """Labels for the first cases only; everybody is a subject of their own."""
    return [
        replace(case, subject="", labels=case.labels if place < labelled else None) for place, case in enumerate(CASES)
    ]


@pytest.mark.parametrize("kind", ["inter", "within"])
def test_pairs_are_of_the_kind_that_is_asked_for(kind: str) -> None:
    sampler = PairSampler(CASES, PLACES, recipe(pairs=kind, batch=8))
    pairs = [pair for step in range(40) for pair in sampler.step(step)]
    assert all(pair.fixed != pair.moving for pair in pairs)
    assert {CASES[p.fixed].subject == CASES[p.moving].subject for p in pairs} == {kind == "within"}
    assert {p.fixed for p in pairs} == {p.moving for p in pairs} == set(PLACES)


def test_a_step_depends_on_its_number_and_the_seed_alone() -> None:
    sampler, again = (PairSampler(CASES, PLACES, recipe()) for _ in range(2))
    steps = [sampler.step(step) for step in range(5)]
    assert [again.step(step) for step in reversed(range(5))] == steps[::-1]
    assert len({tuple(step) for step in steps}) == 5
    assert [PairSampler(CASES, PLACES, recipe(seed=1)).step(step) for step in range(5)] != steps


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_labelled_pairs_have_their_share_and_come_first(share: float) -> None:
    cases = few_labelled(5)
    sampler = PairSampler(cases, PLACES, recipe(pairs="inter", supervision="labels", labelled_share=share))
    steps = [sampler.step(step) for step in range(50)]
    assert round(200 * share) <= sum(pair.labelled for step in steps for pair in step) <= round(200 * share) + 20
    for step in steps:
        flags = [pair.labelled for pair in step]
        assert flags == sorted(flags, reverse=True)
        assert sum(flags) > 4 * share - 1
        assert flags == [max(pair.fixed, pair.moving) < 5 for pair in step]


def test_where_all_have_labels_all_pairs_are_compared_by_them() -> None:
    wanted = recipe(pairs="inter", supervision="labels", labelled_share=0.5)
    sampler = PairSampler(few_labelled(len(CASES)), PLACES, wanted)
    assert all(pair.labelled for step in range(9) for pair in sampler.step(step))


def test_without_a_pair_there_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="recipe toy needs two cases of two subjects to make a pair, got 2 cases of 1"):
        PairSampler(CASES, [0, 1], recipe(pairs="inter"))
    with pytest.raises(ValueError, match="two cases of one subject"):
        PairSampler(CASES, [0, 2], recipe(pairs="within"))
    with pytest.raises(ValueError, match="two labelled cases of two subjects"):
        PairSampler(few_labelled(1), PLACES, recipe(pairs="inter", supervision="labels"))


def test_synthetic_pairs_are_of_one_image() -> None:
    pairs = PairSampler(CASES, [3], recipe(pairs="inter", supervision="warps")).step(0)
    assert [(pair.fixed, pair.moving, pair.labelled) for pair in pairs] == [(3, 3, False)] * 4


@pytest.mark.parametrize("kind", ["inter", "within"])
def test_nobody_teaches_and_judges(kind: str) -> None:
    for seed in range(5):
        parts = split(CASES, recipe(pairs=kind, held_out=0.25, seed=seed))
        teachers, judges = ({CASES[place].subject for place in side} for side in (parts.teaching, parts.judging))
        assert not teachers & judges
        assert len(parts.judging) == 6
        assert sorted(parts.teaching + parts.judging) == list(PLACES)
        assert not parts.notes
    assert split(CASES, recipe(seed=1)) != split(CASES, recipe(seed=2))


def test_few_labelled_cases_all_teach() -> None:
    held = Counter[int]()
    for seed in range(20):
        few = recipe(pairs="inter", supervision="labels", held_out=0.25, seed=seed)
        assert not set(split(few_labelled(8), few).judging) & set(range(8))
        held.update(split(few_labelled(8), replace(few, supervision="images")).judging)
        held.update(split(few_labelled(16), few).judging)
    assert held.keys() & set(range(8))


def test_too_few_cases_judge_themselves() -> None:
    parts = split(CASES[:3], recipe(pairs="within"))
    assert parts.teaching == parts.judging == (0, 1, 2)
    assert "too few cases to hold any out" in parts.notes[0]
    assert "no case was held out" in split(CASES, recipe(held_out=0)).notes[0]
