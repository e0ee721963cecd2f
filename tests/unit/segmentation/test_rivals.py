"""The choice between fusion, networks and means: the prior, what atlases teach, and what a case shows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covoxel.segmentation.candidates import candidates_of, in_words
from covoxel.segmentation.rivals import PRIOR, Advantage, Rivals, Standing, expected_gain

BOTH, MANY = "fusion+joint", 10
unit = st.floats(0, 1)


def standing(predicted: float, agreement: float | None, *, empty: bool = False) -> Standing:
    return Standing(predicted, {"joint": agreement}, frozenset({"joint"} if empty else ()))


USUAL = [standing(0.87, 0.92), standing(0.86, 0.91), standing(0.88, 0.93), standing(0.87, 0.92)]


def judged(fusion: float, joint: float, both: float) -> dict[str, float]:
    return {"fusion": fusion, "joint": joint, BOTH: both}


def rivals(*atlases: dict[str, float], cohort: list[Standing] = USUAL) -> Rivals:
    return Rivals.fit(["joint"], atlases, cohort, MANY)


def test_without_a_held_out_atlas_the_prior_decides_and_both_is_kept() -> None:
    chosen = rivals().choose(standing(0.87, 0.92))
    assert chosen.candidate == BOTH
    assert chosen.predicted == pytest.approx({"fusion": 0.87, "joint": 0.873, BOTH: 0.875})
    assert "better here by 0.005 Dice than fusion" in chosen.reason
    assert not chosen.flag


def test_one_atlas_is_one_warp_and_a_network_is_believed_more() -> None:
    assert Rivals.fit(["joint"], [], USUAL, 1).choose(standing(0.87, 0.92)).candidate == "joint"
    assert Rivals.fit(["joint"], [], USUAL, 10).choose(standing(0.87, 0.92)).candidate == BOTH
    assert expected_gain("joint", 1) == pytest.approx(0.023)
    assert expected_gain("joint", 2) == PRIOR["joint"]


def test_with_one_atlas_the_cohort_is_kept_where_it_has_labelled_the_case() -> None:
    asked = Standing(0.87, {"joint": 0.92}, cohort=True)
    known = Rivals.fit(["joint"], [], [*USUAL, asked], 1)
    chosen = known.choose(asked)
    assert chosen.candidate == "cohort"
    assert chosen.reason.startswith("The label map fused from other cases of the cohort is expected to be better")
    assert known.choose(USUAL[0]).candidate == "joint"
    assert "cohort" not in known.predict(USUAL[0])


def test_held_out_atlases_move_the_gain_from_the_prior_the_more_the_more_there_are() -> None:
    assert Advantage.of([], 0.005) == Advantage(0.005, pytest.approx(math.nan, nan_ok=True), 0)
    one, many = Advantage.of([0.03], 0.005), Advantage.of([0.03] * 16, 0.005)
    assert one.mean == pytest.approx((16 * 0.005 + 0.03) / 17)
    assert many.mean == pytest.approx((16 * 0.005 + 16 * 0.03) / 32)
    four = Advantage.of([0.02, 0.04, 0.02, 0.04], 0.005)
    assert four.error == pytest.approx(0.011547 / 2, abs=1e-5)
    assert math.isnan(one.error)


def test_the_candidate_that_was_better_on_held_out_atlases_is_kept() -> None:
    case = standing(0.87, 0.92)
    better = [judged(0.85, 0.90, 0.88)] * 3
    worse = [judged(0.85, 0.70, 0.80)] * 3
    assert rivals(*better).choose(case).candidate == "joint"
    fused = rivals(*worse).choose(case)
    assert fused.candidate == "fusion"
    assert fused.predicted["joint"] == pytest.approx(0.87 + (16 * PRIOR["joint"] - 0.45) / 19)
    assert "nothing was better" in fused.reason


def test_a_network_that_agrees_less_than_usual_is_not_believed_where_fusion_is_as_usual() -> None:
    known = rivals()
    assert known.choose(standing(0.87, 0.88)).candidate == BOTH, "within the margin"
    chosen = known.choose(standing(0.87, 0.75))
    assert chosen.candidate == "fusion"
    # The median is 0.92 and the margin 0.05: 0.12 are missing.
    assert chosen.predicted["joint"] == pytest.approx(0.873 - 0.12)
    assert chosen.predicted[BOTH] == pytest.approx(0.875 - 0.06)
    assert "agrees with it less than is usual in this cohort (Dice 0.75, usually 0.92)" in chosen.reason


def test_where_the_registration_failed_the_network_is_believed() -> None:
    chosen = rivals().choose(standing(0.40, 0.50))
    assert chosen.candidate == "joint"
    # Fusion falls 0.42 short of what is usual, agreement 0.37: all explained by fusion.
    assert chosen.predicted["joint"] == pytest.approx(0.403 + 0.21)
    assert "Fusion is expected to be poor here." in chosen.reason


def test_what_is_usual_widens_with_the_cohort() -> None:
    wide = [standing(0.8, value) for value in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert rivals(cohort=wide).agreement["joint"].least == pytest.approx(0.7 - 2 * 1.4826 * 0.1)
    assert rivals().agreement["joint"].least == pytest.approx(0.92 - 0.05)
    assert rivals(cohort=[]).choose(standing(0.5, 0.6)).candidate == BOTH


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (standing(0.8, 0.49), "contradicts a fused label map that is expected to be good"),
        (standing(0.4, 0.0, empty=True), "found no structure"),
    ],
)
def test_a_network_that_failed_grossly_is_refused_whatever_was_asked_for(case: Standing, words: str) -> None:
    everywhere = [case] * 4  # and though the whole cohort is like this
    for always in (None, "joint"):
        chosen = rivals(judged(0.5, 0.9, 0.9), cohort=everywhere).choose(case, always=always)
        assert chosen.candidate == "fusion"
        assert words in chosen.reason
        assert (words in chosen.flag) is (always is not None)


def test_the_network_is_kept_where_it_is_asked_for_and_did_not_fail() -> None:
    for case in (standing(0.87, 0.6), standing(0.5, 0.2), standing(0.87, None)):
        chosen = rivals().choose(case, always="joint")
        assert (chosen.candidate, chosen.flag) == ("joint", "")


@given(unit, unit, unit, st.lists(st.tuples(unit, unit, unit), max_size=4))
def test_more_agreement_never_speaks_against_the_network(
    predicted: float, low: float, high: float, dice: list[tuple[float, float, float]]
) -> None:
    known = rivals(*(judged(*each) for each in dice))
    less, more = sorted((low, high))
    one, other = known.predict(standing(predicted, less)), known.predict(standing(predicted, more))
    assert one["fusion"] == other["fusion"] == predicted
    for name in ("joint", BOTH):
        assert one[name] <= other[name] + 1e-12
        assert 0 <= one[name] <= 1


@given(unit, unit, unit)
def test_the_better_fusion_is_expected_to_be_the_less_the_network_is_ahead(
    agreement: float, low: float, high: float
) -> None:
    less, more = sorted((low, high))
    one, other = (rivals()._raw(standing(value, agreement)) for value in (less, more))
    for name in ("joint", BOTH):
        assert one[name] - less >= other[name] - more - 1e-12


def test_candidates_of_two_networks_are_each_alone_with_fusion_and_all_together() -> None:
    names = candidates_of(["joint", "nnunet"])
    assert names == ("fusion", "joint", "nnunet", "fusion+joint", "fusion+nnunet", "fusion+joint+nnunet")
    assert in_words(names[-1]) == "the mean of fusion, the joint network and nnU-Net"
    assert in_words("nnunet") == "the label map of nnU-Net"


def test_of_two_networks_a_refused_one_leaves_its_means_and_the_other_one_stays() -> None:
    cohort = [Standing(0.87, {"joint": 0.92, "nnunet": 0.92})] * 4
    known = Rivals.fit(["joint", "nnunet"], [], cohort, MANY)
    assert known.choose(cohort[0]).candidate == "fusion+joint+nnunet"
    lost = Standing(0.87, {"joint": 0.92, "nnunet": 0.30})
    chosen = known.choose(lost)
    assert chosen.candidate == "fusion+joint"
    assert "NnU-Net contradicts" not in chosen.reason
    assert "nnU-Net contradicts a fused label map" in chosen.reason
    assert known.choose(lost, always="nnunet").candidate == "fusion"
    # 0.57 of agreement are missing beyond the margin; a third of that falls on the mean of all.
    assert known.predict(lost)["fusion+joint+nnunet"] == pytest.approx(0.876 - 0.57 / 3)


def test_an_atlas_judges_only_networks_that_it_taught_nothing() -> None:
    cohort = [Standing(0.87, {"joint": 0.92, "nnunet": 0.92})] * 4
    known = Rivals.fit(["joint", "nnunet"], [{"fusion": 0.85, "nnunet": 0.90, "fusion+nnunet": 0.88}] * 4, cohort, MANY)
    assert known.advantages["joint"].cases == known.advantages["fusion+joint+nnunet"].cases == 0
    assert known.advantages["nnunet"].cases == 4
    assert known.choose(cohort[0]).candidate == "nnunet"
