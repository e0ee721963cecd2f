"""Training on discs: bad label maps sink, empty ones do not rise, an interrupted training loses nothing."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.training import Augmentation, PairedCase, TrainingDivergedError, TrainingSettings, train
from covoxel.training.averaging import follow
from covoxel.training.data_parameters.settings import Mode, Weighting
from nets.segmentation import SEGMENTATION_NETS

MakeNet = Callable[..., nn.Module]
QUICK = TrainingSettings(epochs=12, warm_up=4, batch=2, augmentation=Augmentation(warp_vox=0.5))
STILL = Augmentation(0, 0, 0, 0, noise=0.05)
SHORT = replace(QUICK, epochs=3, warm_up=1)
MODES = ("out_of_line", "inline")


@pytest.mark.parametrize("mode", MODES)
def test_shifted_label_maps_get_the_lowest_parameters(planted: list[PairedCase], make_net: MakeNet, mode: Mode) -> None:
    trained = train(make_net(), planted, labels=2, settings=replace(QUICK, mode=mode))
    for case in planted:
        right, near, shifted, far = trained.parameters.raw(case.id, case.atlas_ids)
        assert far < shifted < min(right, near)
        assert far < 0 < right
    assert not trained.network.training


def test_out_of_line_the_network_knows_nothing_of_the_parameters(planted: list[PairedCase], make_net: MakeNet) -> None:
    """Inline it does: there the rate of the parameters makes another network."""
    for mode, same in (("out_of_line", True), ("inline", False)):
        settings = replace(SHORT, mode=mode, warm_up=0)
        slow, fast = (
            train(make_net(), planted, labels=2, settings=replace(settings, parameter_rate=rate))
            for rate in (0.01, 1.0)
        )
        assert all(map(torch.equal, slow.network.parameters(), fast.network.parameters())) is same
        assert fast.weights["parameter"].std() > 10 * slow.weights["parameter"].std()


def test_next_to_no_damping_moves_every_parameter_by_the_rate(planted: list[PairedCase], make_net: MakeNet) -> None:
    """The first step of Adam is the sign of the gradient, unless it is damped: then a worse map sinks further."""
    settings = replace(QUICK, epochs=5, warm_up=4, batch=6, parameter_rate=0.1)
    sign = train(make_net(), planted, labels=2, settings=replace(settings, damping=0.0)).weights["parameter"]
    damped = train(make_net(), planted, labels=2, settings=replace(settings, damping=1.0)).weights["parameter"]
    assert sign.abs().to_numpy() == pytest.approx(0.1, rel=1e-2)
    assert ((sign < 0) == (damped < 0)).all()
    assert damped.abs().max() < 0.08
    assert damped.abs().max() > 10 * damped.abs().min()


def test_the_average_follows_the_network() -> None:
    mine, theirs = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    theirs.weight.data.fill_(5.0)
    theirs.running_mean.fill_(7.0)  # type: ignore[union-attr]
    follow(mine, theirs, 0.75)
    assert mine.weight.tolist() == [2.0, 2.0]
    assert mine.running_mean.tolist() == [7.0, 7.0]  # type: ignore[union-attr]
    assert theirs.weight.tolist() == [5.0, 5.0]


def chessboard_with_empty_label_map(case: PairedCase) -> PairedCase:
    """Nothing but squares, and a label map that finds nothing there."""
    image = torch.ones_like(case.fixed)
    image[::2, ::2] = image[1::2, 1::2] = -1
    return replace(case, fixed=image, label_maps=case.label_maps * 0)


@pytest.mark.parametrize("weighting", ["overlap", "log", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_risk_alone_keeps_empty_label_maps_from_the_top(
    planted: list[PairedCase], make_net: MakeNet, mode: Mode, weighting: Weighting
) -> None:
    """Nothing is easier to learn than to find nothing. Without equation 3 such a label map would be trusted most."""
    cases = [
        replace(case, label_maps=case.label_maps[:1], valid=case.valid[:1], atlas_ids=case.atlas_ids[:1])
        for case in planted
    ]
    cases[:2] = [chessboard_with_empty_label_map(case) for case in cases[:2]]
    settings = replace(QUICK, epochs=20, warm_up=10, mode=mode, weighting=weighting, augmentation=STILL)
    for risk in (True, False):
        parameters = train(make_net(), cases, labels=2, settings=replace(settings, risk=risk)).parameters
        values = [parameters.raw(case.id, case.atlas_ids)[0] for case in cases]
        empty, full = values[:2], values[2:]
        assert max(empty) < min(full) if risk else min(empty) > max(full)


def state(trained: object) -> list[Tensor]:
    network, parameters = trained.network, trained.parameters  # type: ignore[attr-defined]
    return [*network.state_dict().values(), parameters.embedding.weight]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    planted: list[PairedCase], make_net: MakeNet, tmp_path: Path, mode: Mode, stop: int
) -> None:
    """Stopped within an epoch, before and after the parameters begin; the network has dropout, pairs are drawn."""
    settings = replace(SHORT, mode=mode, batch=2, pairs=3)
    whole = train(make_net(dropout=0.2), planted, labels=2, settings=settings)

    def interrupt(done: int, steps: int, loss: float) -> None:
        assert steps == 9
        if done == stop:
            raise KeyboardInterrupt

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(
            make_net(dropout=0.2),
            planted,
            labels=2,
            settings=settings,
            checkpoint=path,
            checkpoint_steps=2,
            progress=interrupt,
        )
    torch.rand(7)  # what others draw meanwhile is of no matter
    seen: list[int] = []
    again = train(
        make_net(dropout=0.2),
        planted,
        labels=2,
        settings=settings,
        checkpoint=path,
        progress=lambda done, *_: seen.append(done),
    )
    assert seen == list(range(stop - stop % 2 + 1, 10))
    assert all(torch.equal(a, b) for a, b in zip(state(whole), state(again), strict=True))
    assert whole.curve.equals(again.curve)
    assert whole.weights.equals(again.weights)
    finished = train(make_net(dropout=0.2), planted, labels=2, settings=settings, checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(state(whole), state(finished), strict=True))


def test_training_leaves_the_generator_of_others_alone(planted: list[PairedCase], make_net: MakeNet) -> None:
    network = make_net(dropout=0.2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(network, planted, labels=2, settings=replace(SHORT, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_another_training_is_refused(
    planted: list[PairedCase], make_net: MakeNet, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    train(make_net(), planted, labels=2, settings=SHORT, checkpoint=path)
    kept = path.read_bytes()
    for cases, settings, rule in (
        (planted, replace(SHORT, seed=1), "settings"),
        (planted[:5], SHORT, "pairs"),
    ):
        with pytest.raises(ValueError, match=f"is of another training: its {rule}"):
            train(make_net(), cases, labels=2, settings=settings, checkpoint=path)
    with pytest.raises(ValueError, match="is of another training"):
        train(nn.Conv2d(1, 2, 1), planted, labels=2, settings=SHORT, checkpoint=path)
    assert path.read_bytes() == kept
    path.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(ValueError, match=r"state\.pt is no checkpoint"):
        train(make_net(), planted, labels=2, settings=SHORT, checkpoint=path)


class Failing(nn.Module):
    """A network whose answer to one image is not a number, from some call on."""

    def __init__(self, network: nn.Module, at: int) -> None:
        super().__init__()
        self.network, self.left = network, at

    def forward(self, image: Tensor) -> Tensor:
        self.left -= 1
        logits: Tensor = self.network(image)
        return logits if self.left >= 0 else logits * math.nan


def test_divergence_names_the_case_and_keeps_the_last_good_state(
    planted: list[PairedCase], make_net: MakeNet, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    settings = replace(SHORT, warm_up=3, batch=2)
    with pytest.raises(TrainingDivergedError, match=r"step 3 of 9, case case\d: .* nan") as error:
        train(Failing(make_net(), 5), planted, labels=2, settings=settings, checkpoint=path, checkpoint_steps=1)
    order: list[str] = []
    Recorder = type(
        "Recorder",
        (list,),
        {"__getitem__": lambda s, i: order.append(list.__getitem__(s, i).id) or list.__getitem__(s, i)},
    )
    train(make_net(), Recorder(planted), labels=2, settings=settings)
    assert f"case {order[6 + 5]}:" in str(error.value)
    saved = torch.load(path, weights_only=True)["tensors"]["network"]
    assert all(value.isfinite().all() for value in saved.values())
    resumed = train(Failing(make_net(), 10**9), planted, labels=2, settings=settings, checkpoint=path)
    assert resumed.curve["step"].tolist() == [3, 6, 9]


def test_a_gradient_that_is_not_finite_is_divergence_too(planted: list[PairedCase], make_net: MakeNet) -> None:
    network = make_net()
    network[0].weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[index, union-attr]
    with pytest.raises(TrainingDivergedError, match="step 1 of 9, case case"):
        train(network, planted, labels=2, settings=SHORT)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_the_learning_curve_has_a_row_an_epoch(planted: list[PairedCase], make_net: MakeNet) -> None:
    curve = train(make_net(), planted, labels=2, settings=QUICK).curve
    assert curve["epoch"].tolist() == list(range(1, 13))
    assert curve["step"].tolist() == list(range(3, 37, 3))
    assert curve["learning_rate"].iloc[-1] == pytest.approx(QUICK.learning_rate * QUICK.decay**11)
    assert curve["loss"].iloc[-1] < 0.8 * curve["loss"].iloc[0]
    assert curve["pair_cross_entropy"].isna().tolist() == [True] * 4 + [False] * 8
    assert (curve["parameter_sd"].iloc[:4] == 0).all()
    assert curve["parameter_sd"].iloc[4:].is_monotonic_increasing


def test_cases_may_have_any_size_and_number_of_atlases_and_several_labels(make_net: MakeNet) -> None:
    """Read when asked for, one at a time."""

    class Lazy:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> PairedCase:
            if index >= 3:
                raise IndexError(index)
            shape, atlases = (8 + index, 9), index + 1
            generator = torch.Generator().manual_seed(index)
            maps = torch.randint(0, 4, (atlases, *shape), generator=generator).to(torch.int16)
            names = tuple(f"a{k}" for k in range(atlases))
            seen = torch.rand(maps.shape, generator=generator) > 0.2
            return PairedCase(f"c{index}", torch.randn(shape, generator=generator), maps, seen, names)

    weights = train(make_net(labels=4), Lazy(), labels=4, settings=replace(SHORT, batch=2)).weights
    assert weights["case"].tolist() == ["c0", "c1", "c1", "c2", "c2", "c2"]
    assert (weights["parameter"] != 0).all()


def test_a_cohort_that_is_not_fit_is_refused_by_name(planted: list[PairedCase], make_net: MakeNet) -> None:
    empty = [replace(case, label_maps=torch.zeros_like(case.label_maps)) for case in planted]
    for cases, labels, rule in (
        ([], 2, "needs a case"),
        (planted, 1, "two labels"),
        ([*planted, planted[2]], 2, "case2 occurs twice"),
        ([replace(planted[0], label_maps=planted[0].label_maps * 2)], 2, "case case0: .* places 0 to 1, found 0 to 2"),
        (empty, 2, "nothing to learn"),
    ):
        with pytest.raises(ValueError, match=rule):
            train(make_net(), cases, labels=labels, settings=SHORT)
    with pytest.raises(ValueError, match="checkpoint_steps must be 1 or more, got 0"):
        train(make_net(), planted, labels=2, checkpoint_steps=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", "online"), ("epochs", 0), ("batch", 0), ("pairs", 0), ("learning_rate", math.nan), ("parameter_rate", 0),
     ("weight_decay", -1.0), ("damping", math.inf), ("decay", 0.0), ("warm_up", -1)],
)  # fmt: skip
def test_settings_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(TrainingSettings(), **{name: value})


def test_a_network_of_the_registry_learns_in_3d() -> None:
    """Balls: the label map shifted by three voxels sinks below the right one, in every case."""
    axes = torch.stack(torch.meshgrid(*[torch.arange(side).float() for side in (14, 12, 13)], indexing="ij"))
    cases = []
    for index in range(4):
        ball = ((axes - 6 - 0.3 * index) ** 2).sum(0) < 16
        maps = torch.stack([ball, ball.roll(3, 0), ball]).to(torch.uint8)
        image = ball + 0.2 * torch.randn(ball.shape)
        cases.append(PairedCase(f"b{index}", image, maps, torch.ones_like(maps, dtype=torch.bool), ("x", "y", "z")))
    network = SEGMENTATION_NETS["lraspp"](ndim=3, labels=2)
    parameters = train(network, cases, labels=2, settings=replace(QUICK, epochs=8, warm_up=5)).parameters
    for case in cases:
        right, shifted, again = parameters.raw(case.id, case.atlas_ids)
        assert shifted < right
        assert again == pytest.approx(right)


def test_a_network_taught_the_consensus_learns_it_and_the_parameters_follow(
    planted: list[PairedCase], make_net: Callable[..., nn.Module]
) -> None:
    """Most of the label maps are far off here, so that what the atlases say together is wrong."""
    worst = [replace(case, label_maps=case.label_maps[[0, 2, 3, 3]]) for case in planted]
    taught = [replace(case, consensus=case.label_maps[0]) for case in worst]
    settings = TrainingSettings(epochs=12, warm_up=4, learning_rate=0.01)
    alone, told = (train(make_net(), cases, labels=2, settings=settings).parameters for cases in (worst, taught))
    for case in worst:
        assert told.raw(case.id, case.atlas_ids)[0] == max(told.raw(case.id, case.atlas_ids))
    lead = [min(raw[0] - other for other in raw[1:]) for raw in (told.raw(c.id, c.atlas_ids) for c in worst)]
    before = [min(raw[0] - other for other in raw[1:]) for raw in (alone.raw(c.id, c.atlas_ids) for c in worst)]
    assert sum(lead) > sum(before)


def test_a_consensus_of_another_shape_or_type_is_refused(planted: list[PairedCase]) -> None:
    with pytest.raises(ValueError, match="case0: consensus must have shape"):
        replace(planted[0], consensus=planted[0].label_maps)
    with pytest.raises(ValueError, match="case0: consensus must be of an integer type"):
        replace(planted[0], consensus=planted[0].fixed)
