"""A discriminator as the third network: whose turn it is, what it needs, and that a killed training ends the same."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from covoxel.training.joint import ComplementarySettings, DiscriminatorRecipe, JointRecipe, TrainedJoint, train_joint
from covoxel.training.joint.loop import JointCall, JointTraining
from covoxel.training.joint.material import Material
from covoxel.training.joint.sampling import JointSampler
from covoxel.training.joint.turns import turn_at
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import make_fabric
from covoxel.training.seeds import generator
from nets.joint.discriminator import PatchDiscriminator
from tests.unit.training.joint.test_resume import equal
from tests.unit.training.joint.toys import cases, recipe, segmenter
from tests.unit.training.registration.test_resume import everything, same
from tests.unit.training.registration.toys import Interrupt, interrupt_after, toy

DEEPRS = ComplementarySettings(
    sampling=(0.0, 1.0),
    confidence_weight=1.0,
    adversarial_weight=0.1,
    region_weight=1.0,
    discriminator=DiscriminatorRecipe(ratio=0.5, warm_up=1, average=0.5),
)
HOW = recipe(complementary=DEEPRS, joint_steps=8, anatomy_weight=0.0)
STEPS = 15
"""Three of the registration network, four of the segmentation network, eight of all."""


def discriminator() -> PatchDiscriminator:
    torch.manual_seed(4)
    return PatchDiscriminator(2, widths=(4,), width=4)


def train(how: JointRecipe = HOW, **more: object) -> TrainedJoint:
    call: dict[str, object] = {"values": 2, "discriminator": discriminator()} | more
    return train_joint(toy(dropout=0.3), segmenter(dropout=0.3), cases(), how, **call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "of_discriminator", "count"),
    [(20.0, 0.5, {"registration": 200, "discriminator": 100, "segmentation": 10}),
     (2.0, 1.0, {"registration": 124, "discriminator": 124, "segmentation": 62})],
)  # fmt: skip
def test_turns_have_their_ratios_and_are_spread_evenly(
    ratio: float, of_discriminator: float, count: dict[str, int]
) -> None:
    settings = replace(DEEPRS, discriminator=DiscriminatorRecipe(ratio=of_discriminator))
    how = recipe(ratio=ratio, complementary=settings)
    turns = [turn_at(done, 310, "joint", how) for done in range(310)]
    assert Counter(turn.name for turn in turns) == count
    assert Counter(turn.name for turn in turns[:155]) == {name: number // 2 for name, number in count.items()}
    for name, number in count.items():
        mine = [turn for turn in turns if turn.name == name]
        assert [turn.update for turn in mine] == list(range(number))
        assert {turn.length for turn in mine} == {number}
    assert {turn_at(done, 9, "segmentation", how).name for done in range(9)} == {"segmentation"}


def test_in_its_turn_the_discriminator_learns_and_the_others_are_frozen() -> None:
    material = Material(cases(), 2)
    networks = {"registration": toy(), "segmentation": segmenter(), "discriminator": discriminator()}
    call = JointCall(
        networks["registration"], networks["segmentation"], material, (material, ()),
        replace(HOW, segmentation_steps=0), (1.0, 1.0), False, networks["discriminator"],
    )  # fmt: skip
    training = JointTraining(call, Files(None, 1000.0, None, None), make_fabric(torch.device("cpu"), "32-true"))
    training.end_phase()
    changed = []
    for _ in range(8):
        before = {name: [p.detach().clone() for p in net.parameters()] for name, net in networks.items()}
        training.step()
        moved = [
            name
            for name, net in networks.items()
            if any(not torch.equal(a, b) for a, b in zip(before[name], net.parameters(), strict=True))
        ]
        assert len(moved) == 1
        changed += moved
    assert "".join(name[0] for name in changed) == "rrdsrrds"
    rates = [machine.optimiser.param_groups[0]["lr"] for machine in training.machines.values()]
    assert rates[2] == DEEPRS.discriminator.learning_rate  # not that of the joint phase


def test_every_part_is_in_the_curve_and_the_unstable_ones_do_not_judge() -> None:
    everyone = cases([0, 1, 2])
    how = replace(HOW, held_out=1)
    trained = train_joint(toy(), segmenter(), everyone, how, values=2, discriminator=discriminator())
    joint = trained.curve[trained.curve["phase"] == "joint"].mean(numeric_only=True)
    for name in (
        "segmentation_confidence", "segmentation_supervised", "registration_adversarial", "registration_region",
        "discriminator_mixed", "discriminator_moved", "discriminator_learning_rate",
    ):  # fmt: skip
        assert joint[name] > 0, name
    assert joint["validation_registration_labels"] > 0
    judged = {str(name) for name in trained.curve if str(name).startswith("validation_registration")}
    assert not any(name.endswith(("adversarial", "region")) for name in judged)
    assert trained.discriminator is not None
    assert not trained.discriminator.training
    assert not equal(trained.discriminator, discriminator())


def test_without_a_discriminator_two_ideas_are_left() -> None:
    settings = ComplementarySettings(sampling=(0.2, 0.8), region_weight=1.0)
    trained = train(replace(HOW, complementary=settings), discriminator=None)
    joint = trained.curve[trained.curve["phase"] == "joint"].mean(numeric_only=True)
    assert joint["registration_region"] > 0
    assert trained.discriminator is None
    assert not any("discriminator" in str(name) for name in trained.curve)


def test_the_labelled_image_moves_where_fixed_labels_teach_nothing() -> None:
    some = cases([0, 1], people=5)
    for weight, sides in ((0.0, {False}), (1.0, {False, True})):
        sampler = JointSampler(Material(some, 2), replace(HOW, anatomy_weight=weight))
        pairs = [pair for step in range(20) for pair in sampler.half_labelled(generator(step))]
        assert {some[pair.fixed].labels is not None for pair in pairs} == sides
        assert all((some[pair.fixed].labels is None) != (some[pair.moving].labels is None) for pair in pairs)


# Trouble


def test_a_discriminator_is_given_if_it_is_needed_and_only_then() -> None:
    def never(*_: object) -> None:
        raise AssertionError

    rule = "discriminator: recipe toys needs one for its weight of confidence or adversarial loss, got none"
    with pytest.raises(ValueError, match=rule):
        train(discriminator=None, progress=never)
    for how in (recipe(), recipe(complementary=ComplementarySettings(region_weight=1.0))):
        with pytest.raises(ValueError, match="recipe toys has no use for one, got a PatchDiscriminator"):
            train(how, progress=never)
    with pytest.raises(ValueError, match="ratio must be positive where a discriminator is to learn, got 0"):
        replace(HOW, ratio=0)


# Resume


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedJoint]:
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    return path, train(checkpoint=path)


@pytest.mark.parametrize("stop", [5, 10, 11, 14])
def test_a_training_that_was_stopped_ends_with_the_same_bits_of_all_three(
    tmp_path: Path, stop: int, whole: tuple[Path, TrainedJoint]
) -> None:
    """Within the segmentation's phase; after a step of the discriminator, of the segmentation network, and later."""
    path = tmp_path / "stopped.pt"
    with pytest.raises(Interrupt):
        train(checkpoint=path, checkpoint_seconds=0, progress=interrupt_after(stop))
    torch.rand(7)
    seen: list[int] = []
    again = train(checkpoint=path, progress=lambda done, *_: seen.append(done))
    assert seen == list(range(stop + 1, STEPS + 1))
    assert same(everything(whole[0]), everything(path))
    for name in ("registration", "segmentation", "segmentation_alone", "discriminator"):
        assert equal(getattr(whole[1], name), getattr(again, name)), name
    assert whole[1].curve.equals(again.curve)


def test_a_checkpoint_of_other_settings_is_refused(whole: tuple[Path, TrainedJoint]) -> None:
    other = replace(HOW, complementary=replace(DEEPRS, discriminator=replace(DEEPRS.discriminator, mixed_share=0.5)))
    with pytest.raises(ValueError, match=r"its complementary\.discriminator\.mixed_share is 0\.2, here 0\.5"):
        train(other, checkpoint=whole[0])
    with pytest.raises(ValueError, match=r"its complementary is \{.*here None"):
        train(replace(HOW, complementary=None), discriminator=None, checkpoint=whole[0])


def test_less_memory_at_once_changes_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair at a time, each is moved as far as in the whole batch."""
    from covoxel.training.joint import complementary

    seen: list[list[float]] = []
    original = complementary.ComplementarySegmentation.__call__

    def spy(self: object, network: nn.Module, batch: object) -> object:
        alpha = getattr(batch, "alpha", None)
        if alpha is not None:
            seen.append(alpha.tolist())
        return original(self, network, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(complementary.ComplementarySegmentation, "__call__", spy)
    material = Material(cases(), 2)
    for rows in (2, 1):
        call = JointCall(
            toy(), segmenter(), material, (material, ()), replace(HOW, segmentation_steps=0, ratio=0.1), (1.0, 1.0),
            False, discriminator(),
        )  # fmt: skip
        training = JointTraining(call, Files(None, 1000.0, None, None), make_fabric(torch.device("cpu"), "32-true"))
        training.end_phase()
        training.machines["segmentation"].rows = rows
        while turn_at(training.state.done, 8, "joint", training.recipe).name != "segmentation":
            training.state.done += 1
        training.step()
    together, *apart = seen
    assert together == [value for one in apart for value in one]
