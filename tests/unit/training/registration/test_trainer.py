"""Training: the shift is found, the best weights are kept, and what cannot be trained is refused in a sentence."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.registration import (
    PairAugmentation,
    Term,
    TrainingCase,
    TrainingDivergedError,
    WarpSettings,
    train_registration,
)
from covoxel.training.registration.machine import Precision
from nets.registration import REGISTRATION_NETS
from tests.unit.training.registration.toys import SHIFT, Said, recipe, shifted_cases, toy

SHAPES = [(16, 14), (10, 9, 8)]
SHORT = recipe()
CASES = shifted_cases((12, 10), labelled=True)


def displacement_at_blob(network: nn.Module, fixed: TrainingCase, moving: TrainingCase) -> float:
    """Mean displacement along the first axis where the fixed blob is."""
    with torch.no_grad():
        said = network(fixed.image[None, None], moving.image[None, None]).displacement_vox[0, 0]
    weight = (fixed.image > 0.3).float()
    return float((said * weight).sum() / weight.sum())


@pytest.mark.parametrize("supervision", ["images", "labels", "warps"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_finds_the_shift_and_its_direction(shape: tuple[int, ...], supervision: str) -> None:
    """`moved(x) = moving(x + u(x))`: a moving blob that lies further along the axis asks for a positive u."""
    cases = shifted_cases(shape, labelled=True)
    how = recipe(
        steps=90,
        supervision=supervision,
        similarity=Term("mse", 30.0),
        regularisers=(Term("diffusion", 0.05),),
        warps=WarpSettings(rotation_rad=0, scale=0, shift=0.1, warp_vox=0.3, still=0),
        check_every=30,
        held_out=0.3,
        learning_rate=0.005,
        warm_up=10,
    )
    torch.manual_seed(0)
    network = REGISTRATION_NETS["voxelmorph-1"](
        len(shape), encoder=(8, 16), decoder=(16, 16), half=8, last=(8,), factor=2
    )
    trained = train_registration(network, cases, how, values=2)
    first, second = cases[0], cases[1]
    there = displacement_at_blob(trained.network, first, second)
    back = displacement_at_blob(trained.network, second, first)
    assert 0.3 * SHIFT < there < 2 * SHIFT
    assert -2 * SHIFT < back < -0.3 * SHIFT
    curve = trained.curve
    assert curve["step"].tolist() == [30, 60, 90]
    assert curve["validation_loss"].iloc[-1] < curve["validation_loss"].iloc[0]
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]
    assert not trained.network.training
    assert (trained.step, trained.stopped_early) == (90, False)


def test_warps_learn_from_no_label_and_from_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """One case without label is enough, and labels make no difference."""
    how = recipe(supervision="warps", pairs="inter", held_out=0.3)
    bare = [replace(case, labels=None, subject="") for case in CASES]
    trained = [train_registration(toy(), some, how, values=2).network for some in (bare, CASES)]
    assert all(map(torch.equal, trained[0].parameters(), trained[1].parameters())) is False  # subjects are held out
    with_labels = [replace(case, subject="") for case in CASES]
    again = train_registration(toy(), with_labels, how, values=2).network
    assert all(map(torch.equal, trained[0].parameters(), again.parameters()))
    assert train_registration(toy(), bare[:1], how).curve["warps"].notna().all()


def test_labels_teach_only_where_they_are_asked_for() -> None:
    bare = [replace(case, labels=None) for case in CASES]
    images, same, labels = (
        train_registration(toy(), cases, recipe(supervision=kind), values=2)
        for cases, kind in ((bare, "images"), (CASES, "images"), (CASES, "labels"))
    )
    assert all(map(torch.equal, images.network.parameters(), same.network.parameters()))
    assert not all(map(torch.equal, images.network.parameters(), labels.network.parameters()))
    assert "labels" not in same.curve
    assert {"labels", "validation_labels"} <= set(labels.curve)


class Judged(nn.Module):
    """A network whose answers get worse with every training step, from the third judgement on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        if self.training:
            self.seen += 1
        off = (self.seen - 4) ** 2 * 0.1 + 0.0 * self.weight
        ramp = torch.arange(fixed.shape[2]).float().view(1, 1, -1, 1)
        return Said((off * ramp).expand(fixed.shape[0], 2, *fixed.shape[2:]))


def test_patience_ends_it_and_the_best_weights_are_kept() -> None:
    how = recipe(steps=100, check_every=2, patience=3, regularisers=(Term("diffusion"),), similarity=Term("mse", 0.0))
    trained = train_registration(Judged(), CASES, how)
    assert trained.stopped_early
    assert trained.step == 10
    assert trained.best_step == 4
    assert float(trained.network.seen) == 4  # type: ignore[arg-type]
    assert trained.curve["step"].tolist() == [2, 4, 6, 8, 10]
    assert trained.curve["validation_loss"].argmin() == 1


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    plain, average = (
        train_registration(toy(), CASES, recipe(average=kept, steps=4, check_every=4)).network for kept in (0.0, 0.99)
    )
    start, last = toy().state_dict(), plain.state_dict()
    for name, value in average.state_dict().items():
        assert not torch.equal(value, last[name])
        assert (value - start[name]).norm() < (last[name] - start[name]).norm()


class Failing(nn.Module):
    """A network whose answer to the last pair of a step is not a number, from some step on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.inner, self.left = toy(), at

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        said: Said = self.inner(fixed, moving)
        if self.training:
            self.left -= 1
        if self.left >= 0:
            return said
        last = torch.zeros_like(said.displacement_vox)
        last[-1] = math.nan
        return Said(said.displacement_vox + last)


def test_divergence_names_the_pair_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    from covoxel.training.registration.sampling import PairSampler
    from covoxel.training.registration.split import split

    path = tmp_path / "state.pt"
    pair = PairSampler(CASES, split(CASES, SHORT).teaching, SHORT).step(2)[-1]
    names = f"fixed and moving case {CASES[pair.fixed].id} and {CASES[pair.moving].id}: (similarity|regularity) is nan"
    network = Failing(2)
    with pytest.raises(TrainingDivergedError, match=f"step 3 of 6, {names}"):
        train_registration(network, CASES, SHORT, checkpoint=path, checkpoint_seconds=0)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    resumed = train_registration(Failing(10**9), CASES, SHORT, checkpoint=path)
    whole = train_registration(Failing(10**9), CASES, SHORT)
    assert all(map(torch.equal, resumed.network.parameters(), whole.network.parameters()))


def test_a_gradient_that_is_not_finite_is_divergence_too() -> None:
    network = toy()
    network.layers[0].weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[union-attr]
    with pytest.raises(TrainingDivergedError, match=r"step 1 of 6, .* gradient is (nan|inf)"):
        train_registration(network, CASES, SHORT)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_out_of_memory_ends_with_the_same_network() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = toy()

        def forward(self, fixed: Tensor, moving: Tensor) -> Said:
            if fixed.shape[0] > 2:
                raise torch.OutOfMemoryError("out of memory")
            return self.inner(fixed, moving)  # type: ignore[no-any-return]

    trained = train_registration(Small(), CASES, recipe(supervision="labels"), values=2)
    plain = train_registration(toy(), CASES, recipe(supervision="labels"), values=2)
    assert trained.notes == (
        "cpu ran out of memory: 2 pairs at once, gradients added up, so that a step is still of 4",
        *plain.notes,
    ) or set(trained.notes) - set(plain.notes)
    for one, other in zip(trained.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_frozen_stages_are_trained_one_after_the_other() -> None:
    settings = {"encoder": [4, 4], "decoder": [4, 4], "half": 4, "last": [4]}
    torch.manual_seed(0)
    network = REGISTRATION_NETS["cascade"](2, stages=2, schedule="frozen", stage_settings=settings)
    before = [[p.clone() for p in stage.parameters()] for stage in network.stages]  # type: ignore[union-attr]
    seen: dict[int, list[list[bool]]] = {}

    def progress(done: int, steps: int, loss: float) -> None:
        seen[done] = [
            [torch.equal(p, q) for p, q in zip(stage.parameters(), old, strict=True)]
            for stage, old in zip(network.stages, before, strict=True)  # type: ignore[arg-type]
        ]
        if done == 3:
            before[0] = [p.detach().clone() for p in network.stages[0].parameters()]  # type: ignore[index, union-attr]

    trained = train_registration(network, CASES, recipe(check_every=3), progress=progress)
    assert not all(seen[1][0])
    assert all(all(seen[step][1]) for step in (1, 2, 3))
    assert all(all(seen[step][0]) for step in (4, 5, 6))
    assert not all(seen[6][1])
    assert all(parameter.requires_grad for parameter in trained.network.parameters())
    rates = trained.curve["learning_rate"]
    assert rates.iloc[0] == rates.iloc[1]
    with pytest.raises(ValueError, match="steps must be 2 or more, one for each stage, got 1"):
        train_registration(network, CASES, recipe(steps=1))


@pytest.mark.parametrize(
    ("name", "settings", "changes"),
    [
        ("voxelmorph-1", {"head": "stationary"}, {"supervision": "labels", "average": 0.9}),
        ("voxelmorph-1", {}, {"consistency": (Term("inverse_consistency"),)}),
        ("deformable-pyramid", {}, {"level_weight": 0.5, "affine_regularisers": (Term("determinant"),)}),
        ("c2fvit", {}, {"affine_regularisers": (Term("orthogonality"),), "regularisers": ()}),
        ("dual-prnet", {}, {"supervision": "warps", "level_weight": 1.0}),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_networks_of_the_registry_take_a_step(
    shape: tuple[int, ...], name: str, settings: dict[str, object], changes: dict[str, object]
) -> None:
    cases = shifted_cases(shape, labelled=True)
    torch.manual_seed(0)
    network = REGISTRATION_NETS[name](len(shape), **settings)
    before = [p.clone() for p in network.parameters()]
    trained = train_registration(network, cases, recipe(steps=1, batch=2, **changes), values=2)
    assert trained.curve["loss"].gt(0).all()
    assert not all(map(torch.equal, before, trained.network.parameters()))


def test_logs_are_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = train_registration(toy(), CASES, SHORT, logs=tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3, 4, 5, 6]
    judged = [event.value for event in events.Scalars("validation/loss")]
    assert judged == pytest.approx(trained.curve["validation_loss"].tolist())


def test_others_are_left_alone() -> None:
    """Neither the generator of others nor the threads are touched; progress is told of every step."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    network = toy(dropout=0.2)
    torch.manual_seed(5)
    told: list[tuple[int, int]] = []
    train_registration(network, CASES, SHORT, progress=lambda done, steps, loss: told.append((done, steps)))
    assert torch.equal(torch.rand(3), expected)
    assert told == [(step, 6) for step in range(1, 7)]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"devices": 5}, "devices must be from 1 to the batch, 4, got 5"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds must not be negative"),
        ({"spacing_mm": (1.0,)}, "spacing_mm must be 2 positive numbers"),
        ({"recipe": recipe(supervision="labels")}, "values must be 2 or more for supervision 'labels'"),
        ({"cases": CASES[:1]}, "needs two cases of one subject"),
        ({"recipe": recipe(similarity=Term("mee"))}, "unknown similarity 'mee'"),
        ({"recipe": recipe(similarity=Term("lncc", 1.0, {"raduis": 2}))}, "raduis"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(change: dict[str, object], rule: str) -> None:
    call: dict[str, object] = {"network": toy(), "cases": CASES, "recipe": SHORT} | change
    with pytest.raises((ValueError, TypeError), match=rule):
        train_registration(**call)  # type: ignore[arg-type]


def test_images_smaller_than_the_stride_are_refused() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 13)

        def forward(self, fixed: Tensor, moving: Tensor) -> Said:
            return Said(self.layer(torch.cat([fixed, moving], 1)))

    with pytest.raises(ValueError, match=r"the network cannot register images of \(12, 10\), too small perhaps"):
        train_registration(Deep(), CASES, SHORT)
    network = toy()
    network.smallest_side = 16  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"at least 16 voxels along each axis for this network, got \(12, 10\)"):
        train_registration(network, CASES, SHORT)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_gpu_trains_what_the_cpu_does(precision: Precision) -> None:
    how = recipe(supervision="labels", augmentation=PairAugmentation(0, 0, 0, 0, 8.0, 0, 0))
    expected = train_registration(toy(), CASES, how, values=2).curve
    trained = train_registration(toy(), CASES, how, values=2, device="cuda", precision=precision)
    exact = {"32-true": 1e-3, "bf16-mixed": 0.05, "16-mixed": 0.2}[precision]  # the last one skips steps at first
    assert trained.curve["validation_loss"].tolist() == pytest.approx(expected["validation_loss"].tolist(), rel=exact)
    assert {parameter.device.type for parameter in trained.network.parameters()} == {"cpu"}


@pytest.mark.slow
def test_two_processes_train_the_same_network_as_one(tmp_path: Path) -> None:
    how = recipe(supervision="labels", batch=5)
    path = tmp_path / "state.pt"
    one = train_registration(toy(), CASES, how, values=2)
    two = train_registration(toy(), CASES, how, values=2, devices=2, checkpoint=path)
    assert one.curve["validation_loss"].tolist() == pytest.approx(two.curve["validation_loss"].tolist())
    for mine, theirs in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    again = train_registration(toy(), CASES, how, values=2, checkpoint=path)
    assert all(map(torch.equal, again.network.parameters(), two.network.parameters()))


def test_covoxel_is_imported_without_lightning_and_tensorboard() -> None:
    """They come when a training begins, and are not waited for by what only reads a recipe."""
    code = (
        "import sys; sys.modules['lightning_fabric'] = sys.modules['tensorboard'] = None\n"
        "import covoxel.training.registration, covoxel.registration, covoxel.fusion"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[4], check=True)
