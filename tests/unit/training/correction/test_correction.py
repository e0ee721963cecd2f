"""Corrective learning: a systematic error is learnt away, where it is looked for, in tiles as in one, and resumed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.metrics import dice
from covoxel.training import TrainingDivergedError
from covoxel.training.correction import (
    CorrectionCase,
    CorrectionSettings,
    correct,
    learn_correction,
    train_correction,
)
from covoxel.training.correction.cases import region
from covoxel.training.correction.samples import Sampler, fused_and_true, stack_of
from tests.unit.training.correction.toys import build, case, cases, settings
from tests.unit.training.registration.toys import Interrupt, interrupt_after


def overlap(probabilities: Tensor, truth: Tensor) -> float:
    return dice(probabilities.argmax(0), truth, [1])[1]


class Nearby(nn.Module):
    """Says what it sees in the next voxels, and nothing of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, seen: Tensor) -> Tensor:
        said: Tensor = self.look(seen)
        return said


# What is learnt


def test_labels_that_are_a_voxel_too_large_are_mended_on_a_case_not_seen() -> None:
    how = settings(60)
    trained = train_correction(build(), cases(4), how)
    unseen = case(9)
    mended = correct(trained.network, unseen.image, unseen.probabilities, how)
    assert overlap(unseen.probabilities, unseen.labels) < 0.9
    assert overlap(mended, unseen.labels) > 0.97
    assert trained.curve["step"].tolist() == list(range(5, 61, 5))
    assert trained.curve["loss"].iloc[-1] < trained.curve["loss"].iloc[0] / 2
    parts = trained.curve["soft_dice"] + trained.curve["cross_entropy"]
    assert torch.allclose(torch.tensor(parts), torch.tensor(trained.curve["loss"]))


def test_the_correction_is_used_if_cases_not_seen_gain_by_it() -> None:
    told: list[tuple[int, int]] = []
    learnt = learn_correction(
        build, cases(5), settings(40), progress=lambda done, total, loss: told.append((done, total))
    )
    assert learnt.network is not None
    assert set(learnt.gains) == {f"a{number}" for number in range(5)}
    assert learnt.gain > 0.05 > learnt.error
    assert f"{learnt.gain:+.4f} (standard error {learnt.error:.4f})" in learnt.sentence
    assert told == [(done, 240) for done in range(1, 241)]


def test_a_correction_that_does_not_help_is_refused_and_not_trained_on_all() -> None:
    told: list[int] = []
    right = cases(4, dilated=0)
    learnt = learn_correction(build, right, settings(4), progress=lambda done, total, loss: told.append(done))
    assert learnt.network is None
    assert learnt.gain <= 0
    assert learnt.sentence.startswith("Fusion was not corrected")
    assert told[-1] == 16
    assert learnt.curve.empty


@pytest.mark.parametrize(("gains", "used"), [((-0.02, 0.01, -0.02, 0.02), True), ((-0.02, -0.01, -0.02, 0.0), False)])
def test_a_loss_that_may_be_chance_does_not_refuse_a_correction(
    monkeypatch: pytest.MonkeyPatch, gains: tuple[float, ...], used: bool
) -> None:
    left = iter(gains)
    monkeypatch.setattr("covoxel.training.correction.crossfit.gain_on", lambda *_: next(left))
    learnt = learn_correction(build, cases(4), settings(1))
    assert (learnt.network is not None) == used
    assert learnt.sentence.endswith(", which may be chance.") == used


def test_every_part_judges_once_and_none_judges_its_own_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def train(network: nn.Module, some: list[CorrectionCase], *_: object, **__: object) -> object:
        seen.append({one.id for one in some})
        return train_correction(network, some, settings(1))

    monkeypatch.setattr("covoxel.training.correction.crossfit.train_correction", train)
    twice = [replace(one, subject=f"s{number // 2}") for number, one in enumerate(cases(6))]
    learnt = learn_correction(build, twice, settings(1))
    assert seen[:3] == [{"a2", "a3", "a4", "a5"}, {"a0", "a1", "a4", "a5"}, {"a0", "a1", "a2", "a3"}]
    assert set(learnt.gains) == {f"a{number}" for number in range(6)}


@pytest.mark.parametrize(
    "some", [cases(3), [replace(one, subject="s1") for one in cases(4)]], ids=["three", "one subject"]
)
def test_too_few_cases_are_refused(some: list[CorrectionCase]) -> None:
    with pytest.raises(ValueError, match="needs 4 cases or more of two subjects or more"):
        learn_correction(build, some, settings(1))


# Where it looks


def test_the_region_is_the_box_of_the_structures_and_a_margin_within_the_image() -> None:
    probabilities = torch.zeros(2, 20, 30)
    probabilities[1, 6:9, 20:28] = 0.5
    probabilities[1, 0, 0] = 0.05
    probabilities[0] = 1 - probabilities[1]
    assert region(probabilities, 3) == (slice(3, 12), slice(17, 30))
    assert region(torch.stack([torch.ones(5, 5), torch.zeros(5, 5)]), 3) is None


def test_inside_the_mean_of_both_is_said_and_outside_what_fusion_said() -> None:
    one, how = case(0, side=40), settings(margin_vox=2)

    class Sure(nn.Module):
        def forward(self, seen: Tensor) -> Tensor:
            return torch.stack([torch.zeros_like(seen[:, 0]), torch.full_like(seen[:, 0], 50.0)], 1)

    mended = correct(Sure(), one.image, one.probabilities, how)
    box = region(one.probabilities, 2)
    assert box is not None
    inside = torch.zeros(40, 40, dtype=torch.bool)
    inside[box] = True
    assert torch.equal(mended[:, ~inside], one.probabilities[:, ~inside])
    torch.testing.assert_close(mended[1][inside], (1 + one.probabilities[1][inside]) / 2)
    torch.testing.assert_close(mended.sum(0), torch.ones(40, 40))
    assert torch.equal(one.probabilities, case(0, side=40).probabilities)


def test_where_fusion_found_nothing_nothing_is_changed() -> None:
    nothing = torch.stack([torch.ones(24, 24), torch.zeros(24, 24)])
    assert torch.equal(correct(build(), case(0).image, nothing), nothing)


def test_in_tiles_the_same_is_said_as_of_the_whole() -> None:
    one, network = case(3, side=60), Nearby()
    whole = correct(network, one.image, one.probabilities, settings(margin_vox=20))
    tiled = correct(network, one.image, one.probabilities, settings(margin_vox=20, whole_voxels=1, patch_voxels=24**2))
    torch.testing.assert_close(tiled.sum(0), torch.ones(60, 60))
    assert (tiled - whole).abs().max() < 0.05  # the first voxels of a tile do not see the next one, and weigh least
    assert (tiled - whole).abs().median() < 1e-6


def test_patches_have_a_side_lie_in_the_region_and_half_are_centred_on_a_structure() -> None:
    one = case(1, side=64)
    sampler = Sampler([one], settings(margin_vox=26, whole_voxels=100, patch_voxels=9**2))
    whole, source = region(one.probabilities, 26), torch.Generator().manual_seed(0)
    assert whole is not None
    boxes = [sampler.part(one, whole, source) for _ in range(200)]
    assert all(part.stop - part.start == 9 for box in boxes for part in box)
    for box in boxes:
        assert all(
            around.start <= part.start and part.stop <= around.stop for part, around in zip(box, whole, strict=True)
        )
    middle = [bool(one.labels[tuple(part.start + 4 for part in box)]) for box in boxes]
    assert 0.45 < sum(middle) / 200 < 0.7
    assert sampler.part(one, (slice(0, 10), slice(0, 10)), source) == (slice(0, 10), slice(0, 10))


def test_a_sample_holds_image_fusion_and_truth_of_its_part() -> None:
    one = case(2)
    box = (slice(3, 15), slice(5, 20))
    stack = stack_of(one, box, "cpu")
    fused, truth = fused_and_true(stack)
    assert torch.equal(stack.image[0, 0], one.image[box])
    torch.testing.assert_close(fused[0], one.probabilities[:, box[0], box[1]])
    assert torch.equal(truth[0].argmax(0), one.labels[box])


# Killed, diverged, refused


def test_a_training_that_was_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    how = replace(settings(12), augmentation=CorrectionSettings().augmentation)
    straight = train_correction(build(), cases(3), how)
    with pytest.raises(Interrupt):
        train_correction(
            build(),
            cases(3),
            how,
            checkpoint=tmp_path / "state.pt",
            checkpoint_seconds=0,
            progress=interrupt_after(7),
        )
    steps: list[int] = []
    resumed = train_correction(
        build(),
        cases(3),
        how,
        checkpoint=tmp_path / "state.pt",
        progress=lambda done, total, loss: steps.append(done),
    )
    assert steps[0] in (7, 8)
    for name, part in straight.network.state_dict().items():
        assert torch.equal(part, resumed.network.state_dict()[name]), name
    assert straight.curve.equals(resumed.curve)


def test_another_training_s_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    train_correction(build(), cases(3), settings(2), checkpoint=path)
    with pytest.raises(ValueError, match="another training: its steps is 2, here 3"):
        train_correction(build(), cases(3), settings(3), checkpoint=path)
    with pytest.raises(ValueError, match="another training: its cases"):
        train_correction(build(), cases(4), settings(2), checkpoint=path)


def test_a_loss_that_is_not_finite_names_the_case() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build()

        def forward(self, seen: Tensor) -> Tensor:
            said: Tensor = self.inner(seen)
            return said * torch.where(seen[:, :1].mean() > 5, float("nan"), 1.0)

    some = cases(3)
    spoilt = replace(some[1], image=some[1].image + 100)
    with pytest.raises(TrainingDivergedError, match=r"at step [12] of 9, case a1: soft_dice is nan"):
        train_correction(Broken(), [some[0], spoilt, some[2]], settings(9))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"labels": torch.full((24, 24), 2)}, "labels must be places 0 to 1, found 2 to 2"),
        ({"labels": torch.zeros(24, 24)}, "labels must be whole numbers"),
        ({"probabilities": torch.ones(2, 24, 23)}, "probabilities must be of two labels or more"),
        ({"image": torch.full((24, 24), torch.nan)}, "every intensity must be finite"),
    ],
)
def test_a_case_that_does_not_fit_together_is_refused(wrong: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"case a0: {sentence}"):
        replace(case(0), **wrong)


def test_cases_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="a0 occurs twice"):
        train_correction(build(), [case(0), case(0)], settings(1))
    empty = torch.stack([torch.ones(24, 24), torch.zeros(24, 24)])
    with pytest.raises(ValueError, match="fusion found a structure, got none"):
        train_correction(build(), [replace(case(0), probabilities=empty)], settings(1))


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("learning_rate", 0.0), ("margin_vox", -1), ("decay", "linear"), ("average", 1.0)]
)
def test_wrong_settings_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        CorrectionSettings(**{name: value})  # type: ignore[arg-type]
