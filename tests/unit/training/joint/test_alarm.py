"""The alarm: which label falls back to the separate network, and the sentence that says so."""

import math

import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from covoxel.training.joint import FusedLabels, compare, folds, score, score_against_fused
from covoxel.training.joint.alarm import interval
from covoxel.training.registration import TrainingCase
from tests.unit.training.joint.toys import cases


def table(**labels: list[float]) -> pd.DataFrame:
    named = {int(name.removeprefix("l")): numbers for name, numbers in labels.items()}
    return pd.DataFrame(named, index=[f"c{row}" for row in range(len(next(iter(named.values()))))])


SEPARATE = table(l1=[0.80, 0.60, 0.90, 0.70], l2=[0.80, 0.60, 0.90, 0.70], l3=[0.5] * 4, l4=[math.nan] * 4)
SPREAD = pd.DataFrame({1: [0.1, -0.1, 0.1, -0.1]}, index=SEPARATE.index)


def test_a_label_that_joint_training_hurts_falls_back_and_the_others_do_not() -> None:
    joint = table(l1=[0.85, 0.66, 0.91, 0.78], l2=[0.70, 0.55, 0.80, 0.62], l3=[0.496] * 4, l4=[math.nan] * 4)
    better, worse, chance, nobody = compare(joint, SEPARATE, names={2: "right hippocampus"})
    assert [v.use for v in (better, worse, chance, nobody)] == ["joint", "separate", "separate", "joint"]
    assert chance.high < 0  # little, but sure
    assert (better.alarming, worse.alarming) == (False, True)
    assert worse.difference == pytest.approx(-0.0825)
    assert worse.low < worse.difference < worse.high < 0
    assert worse.sentence == (
        f"right hippocampus: joint minus separate Dice -0.082 (95% interval {worse.low:+.3f} to {worse.high:+.3f}) on "
        "4 held-out cases: joint training hurts, the separate network is used"
    )
    assert nobody.sentence == "label 4: no held-out case has it, joint training was not checked and is used"
    assert math.isnan(nobody.difference)


def test_little_that_may_be_chance_is_no_alarm_and_much_is() -> None:
    for mean, use in ((-0.005, "joint"), (-0.02, "separate"), (0.02, "joint")):
        (verdict,) = compare(SEPARATE[[1]] + mean + SPREAD, SEPARATE[[1]])
        assert verdict.use == use
        assert verdict.low < 0 < verdict.high
    (tolerant,) = compare(SEPARATE[[1]] - 0.03 + SPREAD, SEPARATE[[1]], tolerance=0.05)
    assert tolerant.use == "joint"


def test_cases_are_paired_by_name_and_one_is_enough() -> None:
    joint = SEPARATE[[1]].iloc[::-1] + 0.03
    (verdict,) = compare(joint, SEPARATE[[1]])
    assert verdict.difference == pytest.approx(0.03)
    assert verdict.high - verdict.low < 1e-9
    (single,) = compare(joint.iloc[:1] - 0.1, SEPARATE[[1]].iloc[3:])
    assert (single.use, single.cases) == ("separate", 1)
    assert math.isnan(single.low)
    assert "on 1 held-out case: joint" in single.sentence
    with pytest.raises(ValueError, match="with 1 cases and 3 labels in one of them only"):
        compare(SEPARATE[[1]].iloc[1:], SEPARATE)


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    numbers = torch.randn(7, generator=torch.Generator().manual_seed(0)).numpy()
    expected = stats.ttest_1samp(numbers, 0).confidence_interval(0.95)
    assert interval(numbers) == pytest.approx((expected.low, expected.high), rel=1e-5)


class Threshold(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([0.5 - image, image - 0.5, 1.9 - 9 * image], 1)


def test_score_is_the_dice_of_labelled_cases_inside_the_mask() -> None:
    first, second, *rest = cases([0, 1])
    assert second.labels is not None
    middle = int(second.labels.nonzero()[:, 0].float().median())
    half, inside = second.labels.clone(), second.mask.clone()
    half[middle:], inside[middle:] = 0, False
    found = score(Threshold(), [first, TrainingCase("half", second.image, inside, half), *rest], 3)
    assert found.index.tolist() == [first.id, "half"]
    assert found[1].tolist() == [1.0, 1.0]
    assert found[2].isna().all()  # nobody has it
    outside = score(Threshold(), [TrainingCase("half", second.image, second.mask, half)], 3)
    assert outside[1].item() < 1


def test_folds_hold_out_every_labelled_subject_once() -> None:
    some = cases([0, 1, 2, 5])
    found = list(folds(some, 2))
    assert sorted(name for fold in found for name in fold) == ["p0v0", "p0v1", "p1v0", "p2v1"]
    assert list(folds(some, 2)) == found
    assert [len(fold) for fold in folds(some, 4)] == [1] * 4
    people = [TrainingCase(c.id, c.image, c.mask, c.labels, c.id[:2]) for c in some]
    assert {frozenset(name[:2] for name in fold) for fold in folds(people, 3)} == {
        frozenset({"p0"}), frozenset({"p1"}), frozenset({"p2"})
    }  # fmt: skip
    with pytest.raises(ValueError, match="from 2 to the labelled subjects, 3, got 4"):
        list(folds(people, 4))


# Fused labels


class Says(nn.Module):
    """Label 1 at fixed places, whatever the image."""

    def __init__(self, *places: int) -> None:
        super().__init__()
        self.places = list(places)

    def forward(self, image: Tensor) -> Tensor:
        said = torch.zeros(1, 3, 1, 8)
        said[0, 0], said[0, 1, 0, self.places] = 1, 2
        return said


def row(name: str) -> TrainingCase:
    mask = torch.tensor([[True] * 7 + [False]])
    return TrainingCase(name, torch.zeros(1, 8), mask)


def test_agreement_with_fused_labels_is_dice_where_they_are_sure() -> None:
    """Three voxels are said, of the sure ones four are of label 1 and two of these are said: 2 * 2 / (2 + 4)."""
    labels = torch.tensor([[0, 1, 1, 1, 1, 0, 1, 1]])
    confidence = torch.tensor([[0.2, 0.9, 0.7, 0.8, 0.1, 1, 1, 1]])
    soft = torch.stack([1 - 0.8 * labels, 0.8 * labels, torch.zeros(1, 8)])
    fused = {"hard": FusedLabels(labels, confidence), "soft": FusedLabels(soft, confidence)}
    found = score_against_fused(Says(0, 1, 2), [row("none"), row("hard"), row("soft")], fused, 3)
    assert found.index.tolist() == ["hard", "soft"]
    assert found[1].tolist() == pytest.approx([2 * 2 / (2 + 4)] * 2)
    assert found[2].isna().all()
    stricter = score_against_fused(Says(0, 1, 2), [row("hard")], fused, 3, confident=0.85)
    assert stricter[1].item() == pytest.approx(2 * 1 / (1 + 2))
    everywhere = score_against_fused(Says(0, 1, 2), [row("hard")], {"hard": FusedLabels(labels)}, 3)
    assert everywhere[1].item() == pytest.approx(2 * 2 / (3 + 5))


def test_fused_labels_that_are_nowhere_sure_or_do_not_fit_say_nothing() -> None:
    unsure = {"a": FusedLabels(torch.ones(1, 8, dtype=torch.int64), torch.zeros(1, 8))}
    found = score_against_fused(Says(1), [row("a")], unsure, 3)
    assert found.isna().all(axis=None)
    (verdict, _) = compare(found, found, names={1: "amygdala"}, truth="fused")
    assert verdict.sentence == "amygdala: no fused label is sure of it, joint training was not checked and is used"
    with pytest.raises(ValueError, match=r"case a: fused labels must have shape \(1, 8\), got \(8,\)"):
        score_against_fused(Says(1), [row("a")], {"a": FusedLabels(torch.ones(8, dtype=torch.int64))}, 3)


def test_fused_labels_see_a_catastrophe_and_no_small_harm_however_sure() -> None:
    for loss, use in ((0.03, "joint"), (0.06, "separate")):
        (verdict,) = compare(SEPARATE[[1]] - loss, SEPARATE[[1]], truth="fused")
        assert verdict.high < 0
        assert verdict.use == use
    assert f"agreement with fused labels -0.060 (95% interval {verdict.low:+.3f} to" in verdict.sentence
    assert " on 4 cases: joint training hurts" in verdict.sentence
    (strict,) = compare(SEPARATE[[1]] - 0.03, SEPARATE[[1]], truth="fused", tolerance=0.02)
    assert strict.alarming
