"""Choice of atlases: ranks, limits, sentences, and who contradicts all others."""

from dataclasses import replace

import pytest
import torch

from covoxel.fusion.atlas_choice import (
    choose_atlases,
    contradicting_atlases,
    dice_by_count,
    likeness_scores,
    template_scores,
)
from covoxel.fusion.planted import displaced
from tests.unit.fusion.cases import one_case

SCORES = {"a": 0.9, "b": 0.5, "c": 0.8, "d": 0.1, "e": 0.8}


def test_all_are_kept_best_first_and_ties_by_name() -> None:
    choice = choose_atlases(SCORES)
    assert choice.kept == ("a", "c", "e", "b", "d")
    assert choice.rejected == {}
    assert choose_atlases(dict(reversed(SCORES.items()))) == choice


def test_the_best_are_kept_and_the_others_are_told_why() -> None:
    choice = choose_atlases(SCORES, count=3)
    assert choice.kept == ("a", "c", "e")
    assert choice.rejected["b"] == "Atlas b was left out: it is number 4 by likeness (0.5), and the best 3 are used."
    assert set(choice.rejected) == {"b", "d"}


def test_those_far_below_the_best_go_but_never_too_many() -> None:
    choice = choose_atlases(SCORES, share_of_best=0.7)
    assert choice.kept == ("a", "c", "e")
    assert "0.1, less than 70% of the 0.9 of the best atlas" in choice.rejected["d"]
    assert choose_atlases(SCORES, share_of_best=0.95).kept == ("a", "c", "e")
    assert choose_atlases(SCORES, share_of_best=0.95, minimum=1).kept == ("a",)
    assert choose_atlases(SCORES, count=1).kept == ("a", "c", "e")
    assert choose_atlases({"x": -2.0, "y": -1.0}, share_of_best=0.9).kept == ("y", "x")


def test_one_that_contradicts_never_votes_unless_it_is_alone() -> None:
    choice = choose_atlases(SCORES, contradicting={"a": "Atlas a is upside down.", "z": "no matter"})
    assert choice.kept == ("c", "e", "b", "d")
    assert choice.rejected == {"a": "Atlas a is upside down."}
    assert choose_atlases({"a": 1.0}, contradicting={"a": "…"}).kept == ("a",)


@pytest.mark.parametrize(
    ("scores", "settings", "message"),
    [
        ({}, {}, "at least one atlas"),
        ({"a": float("nan")}, {}, "score of atlas a must be finite, got nan"),
        (SCORES, {"count": 0}, "count must be"),
        (SCORES, {"share_of_best": 1.5}, "share_of_best must"),
        (SCORES, {"minimum": 0}, "minimum must"),
    ],
)
def test_what_makes_no_sense_is_refused(scores: dict[str, float], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_atlases(scores, **settings)  # type: ignore[arg-type]


def test_the_shifted_atlas_is_the_least_alike_and_contradicts() -> None:
    evidence, _ = one_case(atlases=6, error=0.4)
    shifts = torch.zeros(6, 3)
    shifts[2, 1] = 6
    spoilt = displaced(evidence, shifts)
    scores = likeness_scores(spoilt)
    assert min(range(6), key=scores.__getitem__) == 2
    names = [f"atlas-{n}" for n in range(6)]
    found = contradicting_atlases(spoilt, names)
    assert set(found) == {"atlas-2"}
    assert found["atlas-2"].startswith("Atlas atlas-2 was left out: after registration its labels overlap")
    assert contradicting_atlases(evidence, names) == {}
    unsteady, _ = one_case(atlases=6, error=1.5)
    assert contradicting_atlases(unsteady, names) == {}  # all differ much: nobody is unusual


def test_without_a_majority_that_agrees_nobody_contradicts() -> None:
    evidence, _ = one_case(atlases=6)
    scattered = displaced(
        evidence, torch.tensor([[0.0, 7, 0], [0, -7, 0], [0, 0, 6], [0, 0, -6], [7, 0, 0], [-7, 0, 0]])
    )
    assert contradicting_atlases(scattered, list("abcdef")) == {}
    two, _ = one_case(atlases=2)
    assert contradicting_atlases(two, ["a", "b"]) == {}


def test_an_atlas_with_empty_labels_contradicts_and_is_like_nothing() -> None:
    evidence, _ = one_case(atlases=5, error=0.4)
    labels = evidence.labels.clone()
    labels[1] = 0
    labels[1, 0] = 1
    empty = replace(evidence, labels=labels)
    assert set(contradicting_atlases(empty, list("abcde"))) == {"b"}
    assert likeness_scores(empty)[1] == -1
    with pytest.raises(ValueError, match="names must be"):
        contradicting_atlases(empty, ["a"])


def test_distance_in_a_template_is_that_of_even_images() -> None:
    case = torch.randn(6, 5)
    scores = template_scores(case, [3 * case + 2, -case, case + 0.5 * torch.randn(6, 5)])
    assert scores[0] == pytest.approx(0, abs=1e-6)
    assert scores[1] == pytest.approx(-2, abs=1e-6)
    assert scores[1] < scores[2] < scores[0]
    with pytest.raises(ValueError, match="atlas 0 must have the shape"):
        template_scores(case, [torch.zeros(3)])


def test_more_atlases_help_until_the_bad_ones_come() -> None:
    evidence, truth = one_case(atlases=7)
    shifts = torch.zeros(7, 3)
    shifts[:4, 1] = 7
    curve = dice_by_count(displaced(evidence, shifts), truth, [4, 5, 6, 0, 1, 2, 3])
    assert list(curve) == [1, 2, 3, 4, 5, 6, 7]
    assert curve[3] > curve[7] + 0.1
    assert dice_by_count(evidence, truth, list(range(7)), counts=[2]).keys() == {2}
    for order, counts in (([0, 1], None), (list(range(7)), [8])):
        with pytest.raises(ValueError, match="order must|counts must"):
            dice_by_count(evidence, truth, order, counts=counts)
