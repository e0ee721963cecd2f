"""Training of one network: what few labels teach, phases, held-out cases, stitches, and what cannot be trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint import FusedLabels
from covoxel.training.joint.batch import pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint_net import JointNetRecipe, TrainedJointNet, score_pairs, train_joint_net
from covoxel.training.joint_net.answer import shared
from covoxel.training.joint_net.batch import ShownPairs
from covoxel.training.joint_net.loop import JointNetCall, JointNetTraining
from covoxel.training.joint_net.validation import JointNetValidation
from covoxel.training.registration import Term, TrainingCase, TrainingDivergedError
from covoxel.training.registration.loop import Files
from covoxel.training.registration.machine import make_fabric
from nets.joint.cross_stitch import CrossStitch
from nets.joint.ncr_net import NCRNet
from tests.unit.training.joint.toys import STILL, cases
from tests.unit.training.joint_net.toys import Joint, net, recipe, toy
from tests.unit.training.registration.toys import Said

NOTHING_PROPAGATED = "no propagated label was compared: of the labelled cases, no pair can be made"


def train(some: list[TrainingCase], how: JointNetRecipe, *, values: int = 2, **more: object) -> TrainedJointNet:
    network = more.pop("network", None) or toy(values)
    return train_joint_net(network, some, how, values=values, **more)  # type: ignore[arg-type]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def training_of(network: nn.Module, some: list[TrainingCase], how: JointNetRecipe) -> JointNetTraining:
    material = Material(some, 2)
    call = JointNetCall(network, material, (material, ()), how, (1.0, 1.0), False)
    return JointNetTraining(call, Files(None, 1000.0, None, None), make_fabric(torch.device("cpu"), "32-true"))


# What it leaves


def test_the_curve_has_every_part_and_progress_counts_all_steps() -> None:
    seen: list[tuple[int, int]] = []
    trained = train(cases(), recipe(), progress=lambda done, steps, loss: seen.append((done, steps)))
    assert seen == [(done, 6) for done in range(1, 7)]
    assert list(trained.curve["step"]) == [3, 6]
    assert set(trained.curve["phase"]) == {"joint"}
    for name in ("loss", "learning_rate", "similarity", "regularity", "supervised", "propagated", "agreement"):
        assert trained.curve[name].notna().all(), name
    assert not {"fused", "foreign", "levels", "validation_loss"} & set(trained.curve.columns)
    assert not trained.network.training
    assert not same(trained.network, toy())
    assert (trained.best_step, trained.judging, trained.notes) == (6, (), ())


def test_a_part_is_the_mean_over_the_pairs_that_have_it() -> None:
    """Two labelled cases of eight, pairs of any two: propagated labels are rare, and not thinned by the others."""
    rare = recipe(labelled_share=0.0, half_labelled_share=0.0, steps=30, check_every=30, learning_rate=1e-6)
    often = replace(rare, labelled_share=1.0)
    one, other = (train(cases(), how).curve["propagated"][0] for how in (rare, often))
    assert one == pytest.approx(other, rel=0.3)


def test_few_labels_and_unlabelled_images_are_learnt_from() -> None:
    """Segmentation of cases without labels, and propagation of labels, both better than before."""
    some, everyone = cases([0, 1, 2], people=6), cases(range(12), people=6)
    how = recipe(
        steps=120, check_every=60, batch=4, learning_rate=0.02, augmentation=STILL, similarity=Term("mse", 5.0)
    )
    trained = train(some, how)
    before, after = (score_pairs(n, everyone[3:], some, 2)[1].mean() for n in (toy(), trained.network))
    assert after > max(0.85, before + 0.2)
    assert trained.curve["propagated"].iloc[-1] < trained.curve["propagated"].iloc[0]


def test_the_average_follows_the_weights_and_is_what_is_kept() -> None:
    """It forgets quickly where it began: of its own it keeps 1/2, 2/3, and never more than the recipe says."""
    training = training_of(toy(), cases(), recipe(steps=3, average=0.7))
    expected = toy().logits.weight.detach()
    for kept in (1 / 2, 2 / 3, 0.7):
        training.step()
        expected = kept * expected + (1 - kept) * training.machine.network.logits.weight.detach()  # type: ignore[union-attr, operator]
    training.run()
    assert torch.allclose(training.machine.network.logits.weight, expected, atol=1e-6)  # type: ignore[union-attr, arg-type]


def test_labels_are_left_out_anew_at_every_step() -> None:
    training = training_of(toy(), cases(range(8)), recipe(drop_labels=0.5))
    turn, device = training.turn(), torch.device("cpu")
    seen = {training.drawn(replace(turn, update=update), device).shown for update in range(8)}
    assert len(seen) > 3


# Stitches


def test_stitches_leave_the_identity_or_come_to_it_and_the_curve_shows_it() -> None:
    network = net("cross-stitch")
    assert isinstance(network, CrossStitch)
    assert list(shared(network).values()) == pytest.approx([0.1] * len(network.units))
    trained = train(cases(), recipe(learning_rate=0.02), network=network)
    names = [f"alpha_{place}" for place in network.stitch_matrices()]
    assert len(names) > 3
    last = trained.curve[names].iloc[-1]
    matrices = network.stitch_matrices()
    for name, alpha in zip(names, matrices.values(), strict=True):
        assert last[name] == pytest.approx(float((alpha[:, 0, 1].abs() + alpha[:, 1, 0].abs()).mean() / 2))
        assert abs(last[name] - 0.1) > 1e-3
    assert shared(toy()) == {}
    assert shared(net("cross-stitch", linked=False)) == {}


def test_units_that_start_at_the_identity_are_off_it_after_a_few_steps() -> None:
    trained = train(cases(), recipe(learning_rate=0.02), network=net("cross-stitch", start=0.0))
    names = [name for name in trained.curve.columns if name.startswith("alpha_")]
    assert (trained.curve[names].iloc[-1] > 1e-3).all()


# Two phases


def test_the_first_phase_trains_the_registration_alone() -> None:
    network = net("ncr-net", outputs=2)
    assert isinstance(network, NCRNet)
    how = recipe(registration_steps=3, foreign_volume=0.1, foreign_perimeter=0.1, level_weight=0.5, average=0.5)
    training = training_of(network, cases(), how)
    assert training.phase == "registration"
    second = [*network.correspondence.parameters(), *network.foreign.parameters()]
    before = [parameter.detach().clone() for parameter in second]
    for _ in range(3):
        training.step()
    training.judge()
    assert all(map(torch.equal, before, second))
    training.run()
    assert not any(map(torch.equal, before, second))
    alone, *joint = training.state.curve
    assert alone["phase"] == "registration"
    assert alone["levels"] > 0
    assert "foreign" not in alone
    assert all(row["phase"] == "joint" and row["foreign"] > 0 and row["levels"] > 0 for row in joint)


def test_the_second_phase_begins_with_the_first_ones_weights_and_a_fresh_optimiser() -> None:
    network = net("ncr-net", outputs=2)
    how = recipe(registration_steps=4, foreign_volume=0.1, average=0.9)
    training = training_of(network, cases(), how)
    for _ in range(4):
        training.step()
    machine = training.machine
    average = {name: value.clone() for name, value in machine.average.state_dict().items()}
    assert machine.optimiser.state_dict()["state"]
    training.end_phase()
    assert not machine.optimiser.state_dict()["state"]
    for weights in (machine.network.state_dict(), machine.average.state_dict()):
        assert all(torch.equal(value, average[name]) for name, value in weights.items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_two_phases_are_refused_for_a_network_that_has_one() -> None:
    with pytest.raises(
        ValueError, match="registration_steps must be 0 for a network that is not trained in two phases"
    ):
        train(cases(), recipe(registration_steps=3))


# Few labels


def test_without_a_label_it_learns_to_register_alone_and_says_so() -> None:
    trained = train(cases([]), recipe())
    assert trained.notes == (
        "the network has learnt no segmentation: no case has labels to teach it; name an atlas or more",
    )
    assert {"similarity", "regularity"} < set(trained.curve.columns)
    assert not {"supervised", "propagated", "agreement"} & set(trained.curve.columns)
    weights = trained.network.state_dict()
    assert torch.equal(weights["logits.weight"], toy().logits.weight)
    assert not torch.equal(weights["field.weight"], toy().field.weight)
    with pytest.raises(ValueError, match="recipe toys learns from labels alone, and no case has labels to teach it"):
        train(cases([]), recipe(similarity=Term("mse", 0.0)))


def test_one_label_all_labels_and_one_case() -> None:
    one = train(cases([0]), recipe())
    assert one.notes == (NOTHING_PROPAGATED,)
    assert "propagated" not in one.curve
    assert one.curve["agreement"].notna().any()
    everyone = cases(range(8))
    every = train(everyone, recipe())
    assert "agreement" not in every.curve
    assert every.notes == ()
    with pytest.raises(ValueError, match="recipe toys needs two cases of two subjects to make a pair, got 1 cases"):
        train(everyone[:1], recipe())
    with pytest.raises(ValueError, match="needs two cases of one subject to make a pair, got 8 cases of 8 subjects"):
        train(everyone, recipe(pairs="within"))


def test_visits_of_one_subject_are_paired_and_judged_within_it() -> None:
    visits = [replace(case, subject=case.id[:2]) for case in cases(range(8))]
    trained = train(visits, recipe(pairs="within", held_out=1))
    assert len(trained.judging) == 2  # both visits of a subject
    assert trained.curve["validation_propagated"].notna().all()
    validation = JointNetValidation(Material(visits, 2), ["p1v0", "p1v1"], recipe(pairs="within"))
    assert {(pair.fixed, pair.moving) for pair in validation.pairs} == {(2, 3), (3, 2)}


def test_fused_labels_teach_where_there_are_no_true_ones() -> None:
    some = cases([])
    fused = {case.id: FusedLabels((case.image > 0.5).long()) for case in some[2:]}
    trained = train(some, recipe(), fused=fused)
    assert (trained.curve["fused"] > 0).all()
    assert (trained.curve["propagated"] > 0).all()
    assert "supervised" not in trained.curve
    assert trained.notes == ()
    assert train(some, recipe(fused_weight=0.0), fused=fused).notes[0].startswith("the network has learnt no segment")
    with pytest.raises(ValueError, match="of a case without true ones, got some of 'p0v0'"):
        train(cases(), recipe(), fused={"p0v0": fused["p1v0"]})


def test_other_label_sets_and_labels_nobody_has_are_said() -> None:
    some = cases()
    assert some[0].labels is not None
    some[0] = replace(some[0], labels=some[0].labels + (some[0].image > 0.9).long())
    notes = train(some, recipe(), values=4).notes
    assert notes[0] == "no case has a label of place 3 in the list of labels: it cannot be learnt"
    assert notes[1].startswith("label sets differ: p0v1 lack structures of others")


# Held-out cases


def test_held_out_cases_teach_no_label_and_judge() -> None:
    """Whatever their labels are, the network is the same until somebody is judged."""
    some = cases(range(4))
    trained = train(some, recipe(held_out=1))
    (judge,) = trained.judging
    for name in ("loss", "supervised", "propagated", "similarity"):
        assert trained.curve[f"validation_{name}"].notna().all(), name
    decided = trained.curve["validation_supervised"] + trained.curve["validation_propagated"]
    assert trained.curve["validation_loss"].to_numpy() == pytest.approx(decided.to_numpy())
    other = [
        replace(case, labels=1 - case.labels) if case.id == judge and case.labels is not None else case for case in some
    ]
    late = recipe(held_out=1, check_every=1000, steps=4)
    assert same(train(some, late).network, train(other, late).network)
    with pytest.raises(ValueError, match="held_out must leave a labelled case to teach, got 4 of 4"):
        train(some, recipe(held_out=4))


def test_the_best_weights_are_kept_where_somebody_judges() -> None:
    """A rate so large that the last weights are not the best."""
    some = cases(range(4))
    how = recipe(held_out=1, steps=20, check_every=1, learning_rate=3.0, warm_up=20, clip=100.0, decay="constant")
    trained = train(some, how)
    losses = trained.curve["validation_loss"]
    assert losses.iloc[-1] > losses.min()
    assert trained.best_step == int(losses.idxmin()) + 1 < 20
    again = training_of(trained.network, some, how)
    again.validation = JointNetValidation(Material(some, 2), trained.judging, how)
    assert again.validation.judge(again.machine, again.objective)["loss"] == pytest.approx(losses.min(), rel=1e-5)


def test_held_out_cases_that_make_no_pair_cannot_judge() -> None:
    trained = train(cases([0, 1]), recipe(held_out=1, moving_labels="never"))
    assert trained.curve["validation_loss"].notna().all()
    visits = [replace(case, subject=case.id[:2]) for case in cases([0, 2])]
    alone = train(visits, recipe(pairs="within", held_out=1))
    assert "nobody judged: no pair can be made of a held-out case and a labelled one" in alone.notes
    assert alone.best_step == 6


# Trouble


class Poisoned(nn.Module):
    """Says what is no number of one image."""

    def __init__(self, inner: nn.Module, image: Tensor, what: str) -> None:
        super().__init__()
        self.inner, self.image, self.what = inner, image, what

    def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
        said = self.inner(fixed, moving, moving_labels)
        rows = torch.tensor([torch.equal(fixed[row, 0], self.image) for row in range(len(fixed))])
        bad = torch.where(rows, torch.nan, 0.0).view(-1, 1, 1, 1)
        if self.what == "field":
            return replace(said, registered=Said(said.registered.displacement_vox + bad))  # type: ignore[no-any-return]
        return replace(said, fixed_logits=said.fixed_logits + bad)  # type: ignore[no-any-return]


@pytest.mark.parametrize("what", ["field", "logits"])
def test_a_loss_that_is_no_number_names_the_pair_and_keeps_the_checkpoint(tmp_path: Path, what: str) -> None:
    some, path = cases(range(4)), tmp_path / "state.pt"
    broken = Poisoned(toy(), some[1].image, what)
    good: list[bytes] = []

    def progress(*_: object) -> None:
        good.append(path.read_bytes())

    how = recipe(steps=60, augmentation=STILL, held_out=0)
    with pytest.raises(
        TrainingDivergedError, match=r"at step \d+ of 60 of phase joint, fixed and moving case p0v1 and"
    ):
        train(some, how, network=broken, checkpoint=path, checkpoint_seconds=0, progress=progress)
    assert not good or path.read_bytes() == good[-1]


def test_bad_calls_are_value_errors_before_anything_is_trained() -> None:
    def never(*_: object) -> None:
        raise AssertionError

    for change, rule in (
        ({"supervised": (Term("dise"),)}, "recipe toys: unknown label loss 'dise'"),
        ({"similarity": Term("mee")}, "recipe toys: unknown similarity 'mee'"),
        ({"lesions": (2,), "relax": 0.5}, r"lesions must be places 1 to 1 here, got \[2\]"),
    ):
        with pytest.raises(ValueError, match=rule):
            train(cases(), recipe(**change), progress=never)
    with pytest.raises(ValueError, match="values must be 2 or more"):
        train_joint_net(toy(), cases(), recipe(), values=1, progress=never)
    with pytest.raises(ValueError, match="checkpoint_seconds must not be negative"):
        train(cases(), recipe(), checkpoint_seconds=-1.0, progress=never)


def test_mixed_precision_trains_and_compares_in_full_precision() -> None:
    how = recipe(check_every=1, steps=3)
    plain, mixed = (
        train(cases(), how, network=net("cross-stitch"), precision=precision).curve
        for precision in ("32-true", "bf16-mixed")
    )
    for name in ("loss", "similarity", "supervised"):
        assert mixed[name].to_numpy() == pytest.approx(plain[name].to_numpy(), rel=0.05)
        assert (mixed[name] != plain[name]).any()


def test_recomputing_changes_no_bit() -> None:
    plain, again = (
        train(cases(), recipe(steps=3), network=net("cross-stitch"), recompute=recompute).network
        for recompute in (False, True)
    )
    assert same(plain, again)


def test_memory_that_ends_changes_the_batch_and_not_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the pairs at once, and gradients added up; a note says so."""
    training = training_of(toy(), cases(), recipe(batch=4))
    scored, asked = training.objective, []

    def scarce(network: nn.Module, batch: ShownPairs) -> dict[str, Tensor]:
        asked.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("none left")
        return scored(network, batch)

    monkeypatch.setattr(training.machine._module.module, "objective", scarce)
    training.machine.objective = scarce
    training.machine.renew()
    training.step()
    assert asked == [4, 2, 2]
    assert training.state.notes == [
        "cpu ran out of memory: 2 pairs at once, gradients added up, so that a step is still of 4"
    ]
    other = training_of(toy(), cases(), recipe(batch=4))
    other.step()
    pairs = zip(training.call.network.parameters(), other.call.network.parameters(), strict=True)
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in pairs)
    assert len(pairs_of(training.call.material, training.sampler.pairs(torch.Generator(), 0), "cpu")) == 4
