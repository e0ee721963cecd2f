"""Joint training: phases and turns, who is frozen, what few labels teach, and what cannot be trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint import (
    FusedLabels,
    JointRecipe,
    SegmentationRecipe,
    TrainedJoint,
    compare,
    score,
    train_joint,
)
from covoxel.training.joint.loop import JointCall, JointTraining
from covoxel.training.joint.material import Material
from covoxel.training.joint.validation import JointValidation
from covoxel.training.registration import Term, TrainingCase, TrainingDivergedError
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import make_fabric
from tests.unit.training.joint.toys import STILL, STILL_IMAGES, cases, recipe, segmenter
from tests.unit.training.registration.toys import Said, toy
from tests.unit.training.registration.toys import recipe as registration_recipe


def train(some: list[TrainingCase], how: JointRecipe, *, values: int = 2, **more: object) -> TrainedJoint:
    return train_joint(toy(), segmenter(values), some, how, values=values, **more)  # type: ignore[arg-type]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def training_of(some: list[TrainingCase], how: JointRecipe) -> JointTraining:
    material = Material(some, 2)
    call = JointCall(toy(), segmenter(), material, (material, ()), how, (1.0, 1.0), False)
    return JointTraining(call, Files(None, 1000.0, None, None), make_fabric(torch.device("cpu"), "32-true"))


TOO_FEW = "registration alone: labels are too few to hold any out: those that teach were judged on as well"
"""What training of the registration network says of two labels."""


# Phases and turns


def test_every_phase_leaves_its_rows_and_progress_counts_all_steps() -> None:
    seen: list[tuple[int, int]] = []
    trained = train(cases(), recipe(), progress=lambda done, steps, loss: seen.append((done, steps)))
    assert seen == [(done, 13) for done in range(1, 14)]
    rows = list(zip(trained.curve["phase"], trained.curve["step"], strict=True))
    assert rows == [("registration", 3), ("segmentation", 3), ("segmentation", 4), ("joint", 3), ("joint", 6)]
    joint = trained.curve[trained.curve["phase"] == "joint"]
    for name in ("registration_loss", "registration_labels", "segmentation_anatomy", "segmentation_supervised"):
        assert joint[name].notna().all(), name
    assert trained.curve["segmentation_anatomy"][:3].isna().all()  # two labels: alone it learns from those
    assert not trained.registration.training
    assert trained.segmentation is not None
    assert not trained.segmentation.training
    assert trained.segmentation_alone is not None
    assert not same(trained.segmentation, trained.segmentation_alone)
    assert not same(trained.registration, trained.registration_alone)
    assert trained.notes == (TOO_FEW,)


def test_in_turns_one_network_learns_and_the_other_is_frozen() -> None:
    """Two steps of the registration network, one of the segmentation network, and so on."""
    training = training_of(cases(), recipe(segmentation_steps=0, joint_steps=6, ratio=2.0))
    training.end_phase()
    networks = training.call.registration, training.call.segmentation
    changed = []
    for _ in range(6):
        before = [[p.detach().clone() for p in network.parameters()] for network in networks]
        training.step()
        moved = [
            any(not torch.equal(a, b) for a, b in zip(old, network.parameters(), strict=True))
            for old, network in zip(before, networks, strict=True)
        ]
        changed.append("rs"[moved.index(True)])
        assert sum(moved) == 1
    assert "".join(changed) == "rrsrrs"


@pytest.mark.parametrize(
    ("ratio", "turns"), [(20.0, "r" * 20 + "s" + "r" * 4), (0.0, "s" * 25), (0.5, "rss" * 8 + "r")]
)
def test_the_ratio_is_of_registration_steps_to_a_segmentation_step(ratio: float, turns: str) -> None:
    training = training_of(cases(), recipe(segmentation_steps=0, joint_steps=25, ratio=ratio))
    training.state.phase = 1
    found, updates = "", []
    for done in range(25):
        training.state.done = done
        turn = training.turn()
        found += turn.name[0]
        updates.append((turn.name, turn.update))
        assert turn.update < turn.length
    assert found == turns
    assert len(set(updates)) == 25


def test_networks_alone_are_those_of_no_joint_phase() -> None:
    joint, separate = train(cases(), recipe()), train(cases(), recipe(joint_steps=0))
    assert separate.segmentation is not None
    assert joint.segmentation_alone is not None
    assert same(joint.registration_alone, separate.registration)
    assert same(joint.segmentation_alone, separate.segmentation)
    assert same(separate.segmentation, separate.segmentation_alone)  # type: ignore[arg-type]


def test_networks_that_are_trained_already_are_taken_as_they_are() -> None:
    trained = train(cases(), recipe(registration_steps=0, segmentation_steps=0))
    assert same(trained.registration_alone, toy())
    assert same(trained.segmentation_alone, segmenter())  # type: ignore[arg-type]
    assert set(trained.curve["phase"]) == {"joint"}


def test_every_phase_begins_with_a_fresh_optimiser_and_average() -> None:
    how = recipe(segmentation=SegmentationRecipe(average=0.9, warm_up=0, learning_rate=0.05), segmentation_steps=6)
    training = training_of(cases(), how)
    machine = training.machines["segmentation"]
    for _ in range(6):
        training.step()
    assert not same(machine.average, segmenter())
    assert not same(machine.average, machine.network)
    assert machine.optimiser.state_dict()["state"]
    average = {name: value.clone() for name, value in machine.average.state_dict().items()}
    training.end_phase()
    assert not machine.optimiser.state_dict()["state"]
    for network in (machine.network, machine.average):
        assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())


def test_the_registration_is_judged_on_pairs_of_a_held_out_and_a_teaching_case() -> None:
    some = cases([0, 1, 2, 4])
    validation = JointValidation(Material(some, 2), [some[0].id, some[4].id], recipe())
    assert validation.places == [0, 4]
    assert {(pair.fixed, pair.moving) for pair in validation.pairs} == {(0, 1), (0, 2), (4, 1), (4, 2)}


def test_the_rate_of_the_joint_phase_is_its_part() -> None:
    rates = {}
    for part in (1.0, 0.25):
        training = training_of(cases(), recipe(segmentation_steps=0, joint_steps=1, joint_rate=part))
        training.end_phase()
        training.step()
        rates[part] = training.machines["registration"].optimiser.param_groups[0]["lr"]
    assert rates[0.25] == pytest.approx(rates[1.0] / 4)


# Few labels


def test_one_label_teaches_through_the_registration() -> None:
    """Registration is trained without labels, then the segmenter from scratch through it."""
    trained = train(cases([0]), recipe())
    assert trained.notes == (
        "registration was first trained without labels: of labelled cases, 1, no pair can be made",
    )
    alone = trained.curve[trained.curve["phase"] == "segmentation"]
    assert (alone["segmentation_anatomy"] > 0).all()
    assert "registration_labels" not in trained.curve or trained.curve["registration_labels"][:1].isna().all()
    never = train(cases([0]), recipe(through_registration="never"))
    assert never.curve["segmentation_anatomy"][1:3].isna().all()
    always = train(cases([0, 1]), recipe(through_registration="always"))
    assert always.curve["segmentation_anatomy"][1:3].notna().all()


def test_without_a_label_the_registration_is_trained_and_the_segmentation_refused(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "state.pt"
    trained = train(cases([]), recipe(), checkpoint=path, progress=lambda done, steps, _: seen.append((done, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert trained.segmentation is None
    assert trained.segmentation_alone is None
    assert not same(trained.registration, toy())
    assert trained.notes[-1].startswith("the segmentation network was not trained: no case has labels")
    assert set(trained.curve["phase"]) == {"registration"}
    again = train(cases([]), recipe(), checkpoint=path)
    assert same(again.registration, trained.registration)


def test_all_labelled_and_one_case_alone() -> None:
    everyone = cases(range(8))
    trained = train(everyone, recipe())
    assert "segmentation_anatomy" not in trained.curve
    with pytest.raises(ValueError, match="recipe toys needs two cases of two subjects to make a pair, got 1 cases"):
        train(everyone[:1], recipe())
    alone = train(everyone[:1], recipe(registration_steps=0, joint_steps=0))
    assert alone.segmentation is not None
    assert not same(alone.segmentation, segmenter())


def test_fused_labels_teach_where_there_are_no_true_ones() -> None:
    some = cases([])
    fused = {case.id: FusedLabels((case.image > 0.5).long()) for case in some[2:]}
    trained = train(some, recipe(), fused=fused)
    assert trained.segmentation is not None
    assert (trained.curve["segmentation_fused"].dropna() > 0).all()
    assert "segmentation_supervised" not in trained.curve
    assert train(some, recipe(fused_weight=0.0), fused=fused).segmentation is None
    with pytest.raises(ValueError, match="of a case without true ones, got some of 'p0v0'"):
        train(cases(), recipe(), fused={"p0v0": fused["p1v0"]})
    with pytest.raises(ValueError, match="case p1v0: fused labels must be places 0 to 1, found 0 to 4"):
        train(some, recipe(), fused={"p1v0": FusedLabels(4 * (some[2].image > 0.5).long())})


def test_other_label_sets_and_labels_nobody_has_are_said() -> None:
    some = cases()
    assert some[0].labels is not None
    some[0] = replace(some[0], labels=some[0].labels + (some[0].image > 0.9).long())
    trained = train(some, recipe(), values=4)
    assert trained.notes == (
        TOO_FEW,
        "no case has a label of place 3 in the list of labels: it cannot be learnt",
        "label sets differ: p0v1 lack structures of others, which are neither taught nor punished there",
    )
    with pytest.raises(ValueError, match=r"case p0v0: known structures must .* \[1, 2\], got \[1\]"):
        train(some, recipe(), values=4, known={"p0v0": {1}})


def test_held_out_cases_teach_no_label_and_judge() -> None:
    """Whatever their labels are, the networks are the same until somebody is judged."""
    some = cases(range(4))
    how = recipe(held_out=1)
    trained = train(some, how)
    (judge,) = trained.judging
    for phase in ("segmentation", "joint"):
        rows = trained.curve[trained.curve["phase"] == phase]
        assert rows["validation_segmentation_loss"].notna().all()
    assert rows["validation_registration_labels"].notna().all()
    other = [
        replace(case, labels=1 - case.labels) if case.id == judge and case.labels is not None else case for case in some
    ]
    late = recipe(held_out=1, check_every=1000, segmentation_steps=2, joint_steps=2)
    first, second = train(some, late), train(other, late)
    assert same(first.registration, second.registration)
    assert same(first.segmentation, second.segmentation)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="held_out must leave a labelled case to teach, got 4 of 4"):
        train(some, recipe(held_out=4))


def test_the_best_weights_of_the_phase_are_kept_where_somebody_judges() -> None:
    """A rate so large that the last weights are not the best."""
    some = cases(range(4))
    wild = SegmentationRecipe(learning_rate=3.0, warm_up=20, clip=100.0, decay="constant")
    how = recipe(held_out=1, joint_steps=0, segmentation_steps=20, check_every=1, segmentation=wild)
    trained = train(some, how)
    losses = trained.curve["validation_segmentation_loss"].dropna()
    assert losses.iloc[-1] > losses.min()
    judge = [case for case in some if case.id in trained.judging]
    judged = training_of(some, how)
    judged.call.segmentation.load_state_dict(trained.segmentation.state_dict())  # type: ignore[union-attr]
    material = Material(judge, 2)
    from covoxel.training.joint.batch import images_of

    machine = judged.machines["segmentation"]
    again = machine.judged(machine.network, lambda rows: images_of(material, [0], "cpu"), 1)
    assert again["supervised"][0] == pytest.approx(losses.min(), rel=1e-5)


def test_few_labels_and_unlabelled_images_are_learnt_from() -> None:
    some = cases([0, 1], people=6)
    how = recipe(
        registration=registration_recipe(
            pairs="inter", batch=2, steps=10, supervision="labels", similarity=Term("mse", 10.0), augmentation=STILL
        ),
        segmentation=SegmentationRecipe(warm_up=5, learning_rate=0.03, augmentation=STILL_IMAGES),
        segmentation_steps=40,
        joint_steps=20,
        ratio=1.0,
        check_every=100,
    )
    trained = train(some, how)
    everyone = cases(range(12), people=6)
    assert trained.segmentation is not None
    untrained = score(segmenter(), everyone, 2)[1].mean()
    assert score(trained.segmentation, everyone, 2)[1].mean() > max(0.9, untrained + 0.2)


# Trouble


class WrongSign(nn.Module):
    """Takes every voxel from far on the wrong side; learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        return Said(torch.full_like(fixed, 4.0).expand(-1, 2, -1, -1) + self.weight)


def test_a_registration_of_the_wrong_sign_sets_off_the_alarm_and_the_fallback_is_as_good_as_before() -> None:
    some, everyone = cases([0, 1], people=4), cases(range(8), people=4)
    how = recipe(
        registration=replace(recipe().registration, augmentation=STILL),
        segmentation=SegmentationRecipe(warm_up=5, learning_rate=0.03, augmentation=STILL_IMAGES),
        registration_steps=0,
        segmentation_steps=60,
        joint_steps=60,
        ratio=0.0,
        joint_rate=1.0,
        anatomy_weight=50.0,
        check_every=100,
    )
    trained = train_joint(WrongSign(), segmenter(), some, how, values=2)
    assert trained.segmentation is not None
    assert trained.segmentation_alone is not None
    joint, alone = (score(network, everyone[2:], 2) for network in (trained.segmentation, trained.segmentation_alone))
    (verdict,) = compare(joint, alone)
    assert verdict.alarming
    assert alone[1].mean() > joint[1].mean() + 0.1


class Poisoned(nn.Module):
    """Says what is no number of one image."""

    def __init__(self, inner: nn.Module, image: Tensor, what: str) -> None:
        super().__init__()
        self.inner, self.image, self.what = inner, image, what

    def forward(self, *images: Tensor) -> object:
        said = self.inner(*images)
        rows = torch.tensor(
            [any(torch.equal(side[row, 0], self.image) for side in images) for row in range(len(images[0]))]
        )
        bad = torch.where(rows, torch.nan, 0.0).view(-1, 1, 1, 1)
        return Said(said.displacement_vox + bad) if self.what == "registration" else said + bad


@pytest.mark.parametrize("what", ["registration", "segmentation"])
def test_a_loss_that_is_no_number_names_the_pair_and_keeps_the_checkpoint(tmp_path: Path, what: str) -> None:
    some, path = cases([0, 1, 2, 3]), tmp_path / "state.pt"
    still = replace(recipe().registration, augmentation=STILL)
    how = recipe(registration=still, segmentation=SegmentationRecipe(augmentation=STILL_IMAGES), segmentation_steps=0)
    how = replace(how, registration_steps=0, joint_steps=60)
    bad = some[6].image  # an unlabelled one: met in pairs
    registration, segmentation = toy(), segmenter()
    if what == "registration":
        broken = Poisoned(registration, bad, what), segmentation
    else:
        broken = registration, Poisoned(segmentation, bad, what)  # type: ignore[assignment]
    good: list[bytes] = []

    def progress(*_: object) -> None:
        good.append(path.read_bytes())

    with pytest.raises(TrainingDivergedError, match=r"diverged at step \d+ of 60 of phase joint, .* case .*p3v0"):
        train_joint(*broken, some, how, values=2, checkpoint=path, checkpoint_seconds=0, progress=progress)
    assert not good or path.read_bytes() == good[-1]
    assert torch.load(path, weights_only=True)["tensors"]["machines"]


def test_bad_calls_are_value_errors_before_anything_is_trained() -> None:
    def never(*_: object) -> None:
        raise AssertionError

    for change, rule in (
        ({"segmentation": SegmentationRecipe(anatomy=Term("dise"))}, "recipe toys: unknown label loss 'dise'"),
        ({"registration": replace(recipe().registration, similarity=Term("mee"))}, "unknown similarity 'mee'"),
    ):
        with pytest.raises(ValueError, match=rule):
            train(cases(), recipe(**change), progress=never)
    with pytest.raises(ValueError, match="values must be 2 or more"):
        train(cases(), recipe(), values=1, progress=never)


def test_memory_that_ends_for_one_network_sends_both_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_of(cases(), recipe())
    moved = []
    other = training.machines["registration"]
    monkeypatch.setattr(type(other), "where", property(lambda self: "cuda" if self is other and not moved else "cpu"))
    monkeypatch.setattr(type(other), "to_cpu", lambda self: moved.append(self))
    training.step()
    assert moved == [other]


def test_mixed_precision_trains_both_networks_and_compares_in_full_precision() -> None:
    how = recipe(check_every=1, joint_steps=3)
    plain, mixed = train(cases(), how).curve, train(cases(), how, precision="bf16-mixed").curve
    names = [name for name in plain.columns if "loss" in name]
    assert len(names) >= 3
    for name in names:
        one, other = plain[name].dropna(), mixed[name].dropna()
        assert other.to_numpy() == pytest.approx(one.to_numpy(), rel=0.05)
        assert (one != other).any()


def test_recomputing_changes_no_bit() -> None:
    plain, again = train(cases(), recipe()), train(cases(), recipe(), recompute=True)
    assert same(plain.registration, again.registration)
    assert same(plain.segmentation, again.segmentation)  # type: ignore[arg-type]
    assert "forward" not in vars(again.segmentation.layers)  # type: ignore[union-attr, arg-type]
