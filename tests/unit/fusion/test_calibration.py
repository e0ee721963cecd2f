"""Calibration of predicted Dice: learns what can be learnt, stays within bounds, and believes no file."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covoxel.fusion.calibration import Calibration
from covoxel.fusion.facts import CLEAN, Fact, facts_from_json, facts_of, facts_to_json
from covoxel.fusion.planted import OF_THE_IMAGE
from covoxel.fusion.quality import NAMES
from tests.unit.fusion.cases import labelled_facts, one_case


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return list(labelled_facts())


def test_facts_cover_good_and_bad(facts: list[Fact]) -> None:
    found = {(fact.rule, fact.kind) for fact in facts}
    assert {("majority", CLEAN), ("locally_weighted", CLEAN), ("majority", "flipped")} <= found
    assert {kind for _, kind in found} & set(OF_THE_IMAGE)
    assert min(fact.dice for fact in facts) < 0.3
    assert max(fact.dice for fact in facts) > 0.8
    assert {len([f for f in facts if f.case == f"case-{n}"]) for n in range(6)} == {len(facts) // 6}


def test_unseen_cases_are_predicted_and_failures_are_told_from_good_ones(facts: list[Fact]) -> None:
    calibration = Calibration.fit(facts)
    good, bad = [], []
    for seed in range(10, 16):
        for shift, found in ((0.0, good), (5.0, bad)):
            evidence, truth = one_case(seed, shift=shift)
            (row,) = facts_of("new", evidence, truth, {"majority": {}}, plant=0)
            found.append((calibration.predict(row.signs, row.rule).dice, row.dice))
    assert sum(abs(p - t) for p, t in good) / 6 < 0.05
    assert max(p for p, _ in bad) < min(p for p, _ in good) - 0.2


def test_the_order_of_the_facts_is_irrelevant(facts: list[Fact]) -> None:
    assert Calibration.fit(facts) == Calibration.fit(facts[::-1])


def test_one_labelled_case_teaches_nothing(facts: list[Fact]) -> None:
    assert Calibration.fit([f for f in facts if f.case == "case-0"]) == Calibration.prior()
    assert Calibration.fit([]) == Calibration.prior()
    assert Calibration.prior().cases == 0


def test_the_prior_knows_good_from_bad() -> None:
    prior = Calibration.prior()
    predicted = []
    for shift in (0.0, 5.0):
        evidence, truth = one_case(3, shift=shift)
        predicted.append(prior.predict(facts_of("x", evidence, truth, {"majority": {}}, plant=0)[0].signs).dice)
    assert predicted[0] > predicted[1] + 0.3


@given(st.lists(st.floats(-1e6, 1e6), min_size=len(NAMES), max_size=len(NAMES)))
def test_a_prediction_is_a_dice_whatever_the_signs(numbers: list[float]) -> None:
    predicted = Calibration.prior().predict(dict(zip(NAMES, numbers, strict=True)))
    assert 0 <= predicted.dice <= 1
    assert 0 <= predicted.spread <= 1


@pytest.mark.parametrize("sign", ["agreement_alike", "likeness", "likeness_best", "likeness_mean", "explained"])
def test_a_better_sign_never_predicts_a_worse_result(facts: list[Fact], sign: str) -> None:
    calibration = Calibration.fit(facts)
    signs = facts[0].signs
    predicted = [calibration.predict({**signs, sign: x / 10}).dice for x in range(11)]
    assert predicted == sorted(predicted)


def test_json_gives_back_exactly_what_it_was_given(facts: list[Fact]) -> None:
    for calibration in (Calibration.fit(facts), Calibration.prior()):
        assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    assert facts_from_json(json.loads(json.dumps(facts_to_json(facts)))) == facts


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("version", True),
        ("intercept", float("nan")),
        ("intercept", "1"),
        ("cases", -1),
        ("cases", 1.5),
        ("slopes", {"agreement": 1.0}),
        ("slopes", [1.0]),
        ("spread_good", 7.0),
        ("offsets", {"majority": float("inf")}),
        ("offsets", {"majority": None}),
    ],
)
def test_a_corrupt_calibration_is_refused(key: str, value: Any) -> None:
    good = Calibration.prior().to_json()
    with pytest.raises(ValueError, match=key):
        Calibration.from_json({**good, key: value})


def test_a_calibration_with_keys_missing_or_unknown_or_no_mapping_is_refused() -> None:
    good = Calibration.prior().to_json()
    for bad in ({**good, "extra": 1}, {k: v for k, v in good.items() if k != "slopes"}, [], None, "x"):
        with pytest.raises(ValueError, match="a calibration must"):
            Calibration.from_json(bad)
    slopes = {**good["slopes"], "agreement": -0.1}
    with pytest.raises(ValueError, match="agreement of slopes"):
        Calibration.from_json({**good, "slopes": slopes})


def test_corrupt_facts_are_refused(facts: list[Fact]) -> None:
    row = facts[0].to_json()
    for bad in (
        {**row, "dice": 1.2},
        {**row, "rule": ""},
        {**row, "signs": {}},
        {**row, "signs": {**row["signs"], "size": "big"}},
        {"case": "x"},
        7,
    ):
        with pytest.raises(ValueError, match="fact"):
            facts_from_json([bad])
    with pytest.raises(ValueError, match="list"):
        facts_from_json(row)


def test_what_a_rule_does_beyond_its_signs_is_added(facts: list[Fact]) -> None:
    better = [replace(f, dice=min(1.0, f.dice + 0.05)) if f.rule == "majority" else f for f in facts]
    offsets = Calibration.fit(better).offsets
    before = Calibration.fit(facts).offsets
    assert offsets["majority"] - offsets["locally_weighted"] > before["majority"] - before["locally_weighted"] + 0.01
