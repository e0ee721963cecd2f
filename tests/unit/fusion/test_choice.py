"""Choice of a rule: the favourite of the labelled cases, another for good reason only, and said so."""

import json
from typing import Any

import pytest
import torch

from covoxel.fusion import Fused, fuse
from covoxel.fusion.base import smallest_winner
from covoxel.fusion.calibration import Calibration
from covoxel.fusion.candidates import CONSENSUS, FusedImage, candidates, candidates_on, fuse_image
from covoxel.fusion.choice import Selector
from covoxel.fusion.facts import CLEAN, Fact
from covoxel.fusion.quality import NAMES, signs_of
from tests.unit.fusion.cases import RULES, labelled_facts, one_case

GAIN = {"mean": 0.0, "usual": {"expected": 0, "explained": 0}, "slope": {"expected": 1, "explained": 1}, "spread": 0.1}


def fact(case: int, rule: str, dice: float, expected: float = 0.85, kind: str = CLEAN) -> Fact:
    return Fact(f"case-{case}", rule, kind, {**dict.fromkeys(NAMES, 0.5), "expected": expected}, dice)


def facts_with(**dice: float) -> list[Fact]:
    """Of ten cases; every rule has its Dice, less what the case costs all."""
    return [fact(n, rule, d - 0.01 * (n % 3)) for n in range(10) for rule, d in dice.items()]


def test_the_best_rule_on_the_labelled_cases_is_the_favourite() -> None:
    facts = facts_with(majority=0.85, locally_weighted=0.87, joint_label_fusion=0.86)
    selector = Selector.fit(facts)
    assert selector.favourites == ("locally_weighted", "joint_label_fusion", "majority")
    assert Selector.fit(facts[::-1]) == selector
    assert selector.flags == ()
    (flag,) = Selector.fit([f for f in facts if f.case in ("case-1", "case-2")]).flags
    assert "learnt on 2 labelled cases only" in flag


def test_joint_label_fusion_is_the_favourite_unless_another_is_clearly_better() -> None:
    close = [fact(n, "joint_label_fusion", 0.870 + 0.004 * (n % 2)) for n in range(10)]
    assert (
        Selector.fit([*close, *(fact(n, CONSENSUS, 0.8722) for n in range(10))]).favourites[0] == "joint_label_fusion"
    )
    assert Selector.fit([*close, *(fact(n, CONSENSUS, 0.88) for n in range(10))]).favourites[0] == CONSENSUS


@pytest.fixture(scope="module")
def selector() -> Selector:
    return Selector.fit(labelled_facts())


def test_a_good_case_gets_the_favourite_and_a_prediction_for_every_rule(selector: Selector) -> None:
    evidence, _ = one_case(20)
    results = candidates(evidence, RULES)
    selected = selector.select(evidence, results)
    assert selected.rule == selector.favourites[0]
    assert selected.fused is results[selected.rule]
    assert set(selected.predicted) == set(results)
    signs = signs_of(evidence, results)
    assert selected.predicted == {rule: selector.calibration.predict(own, rule) for rule, own in signs.items()}
    assert selected.reason.startswith(
        f"{selected.rule}, the default rule, is kept: another rule must be expected to be"
    )
    assert " comes nearest to that: " in selected.reason


def test_another_rule_is_taken_where_much_speaks_for_it() -> None:
    """What a rule expects of itself foretells its Dice exactly; the vote then says it does better."""
    rows = []
    for n in range(10):
        for kind, gap in ((CLEAN, 0.0), ("noisy", -0.1), ("shifted", 0.1)):
            rows += [fact(n, "majority", 0.80, 0.80, kind), fact(n, "locally_weighted", 0.85 + gap, 0.85 + gap, kind)]
    selector = Selector.fit(rows)
    assert selector.favourites[0] == "locally_weighted"
    evidence, _ = one_case(0)
    results = candidates(evidence, RULES)
    gain = selector.gains["majority"]
    for vote, other in ((0.80, 0.85), (0.85, 0.80), (0.9, 0.6)):
        signs = ({**dict.fromkeys(NAMES, 0.5), "expected": expected} for expected in (vote, other))
        assert gain.on(*signs) == pytest.approx(vote - other, abs=0.005)
    one = fuse("majority", evidence)
    unsure = one.probabilities * 0.5
    unsure[0] += 0.5
    results["locally_weighted"] = FusedImage.of(Fused(one.label_map, one.confidence, unsure), evidence.values)
    selected = selector.select(evidence, results)
    assert selected.rule == "majority"
    margin = max(0.005, 1.5 * gain.spread)
    assert selected.reason.startswith("majority is used in place of the default rule locally_weighted: it is expected")
    assert f"more than the margin of {margin:.3f}" in selected.reason


def test_one_rule_is_chosen_from_one(selector: Selector) -> None:
    evidence, _ = one_case(21)
    selected = selector.select(evidence, {"staple": fuse_image(evidence, "majority")})
    assert selected.rule == "staple"
    assert selected.reason == "staple is the default rule, and no other can be compared with it."
    with pytest.raises(ValueError, match="at least one"):
        selector.select(evidence, {})


def test_with_one_labelled_case_the_prior_is_used_and_said() -> None:
    selector = Selector.fit([fact(0, "majority", 0.9)])
    assert selector.calibration == Calibration.prior()
    assert "1 labelled case" in selector.flags[0]
    evidence, _ = one_case(0, atlases=1)
    selected = selector.select(evidence, candidates(evidence, RULES))
    assert selected.rule == "locally_weighted"
    assert 0 <= selected.predicted["majority"].dice <= 1


def test_the_consensus_is_the_mean_of_the_two_local_rules() -> None:
    evidence, _ = one_case(1)
    rules: dict[str, dict[str, Any]] = {**RULES, "joint_label_fusion": {"search": 0, "radius": 1}, "staple": {}}
    results = candidates_on(evidence, rules)
    mean = (results["locally_weighted"].probabilities + results["joint_label_fusion"].probabilities) / 2
    assert (results[CONSENSUS].probabilities - mean).abs().max() < 1e-6
    assert torch.equal(results[CONSENSUS].label_map, evidence.values[smallest_winner(mean)])
    assert CONSENSUS not in candidates(evidence, RULES)
    assert CONSENSUS not in candidates(evidence, rules, consensus=False)
    with pytest.raises(ValueError, match="at least one"):
        candidates(evidence, {})


def test_json_gives_back_exactly_what_it_was_given(selector: Selector) -> None:
    for one in (selector, Selector.fit([])):
        assert Selector.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 0),
        ("favourites", "majority"),
        ("favourites", [1]),
        ("gains", {"majority": {"mean": 0.0}}),
        ("gains", {"majority": {"mean": 0.0, "usual": {}, "slope": {}, "spread": 0.1}}),
        ("gains", {"majority": {**GAIN, "spread": None}}),
        ("gains", {"majority": {**GAIN, "slope": {"expected": -1.0, "explained": 0.0}}}),
        ("flags", [None]),
        ("calibration", {}),
    ],
)
def test_a_corrupt_selector_is_refused(selector: Selector, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key.rstrip("s")):
        Selector.from_json({**selector.to_json(), key: value})
