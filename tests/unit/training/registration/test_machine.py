"""Machine: less at once when memory ends, and the same gradient; schedule: up, down, and anew for each stage."""

import logging
import re

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from covoxel.training.registration import Recipe
from covoxel.training.registration.machine import Machine, make_fabric
from covoxel.training.registration.objective import Objective
from covoxel.training.registration.pairs import Pairs, plain_pairs
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.schedule import Schedule
from covoxel.training.registration.terms import Terms
from tests.unit.training.registration.toys import Said, recipe, shifted_cases, toy

CASES = shifted_cases((12, 10), 4, labelled=True)


class Hungry(nn.Module):
    """A network that has memory for a few pairs at once; on some "device" for none."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.inner, self.most, self.asked = toy(), most, list[int]()
        self.error = error or torch.OutOfMemoryError("out of memory")

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        self.asked.append(fixed.shape[0])
        if fixed.shape[0] > self.most:
            raise self.error
        return self.inner(fixed, moving)  # type: ignore[no-any-return]


def machine_of(network: nn.Module, how: Recipe | None = None) -> Machine:
    how = how or recipe(supervision="labels", batch=5)
    return Machine(network, Objective(how, Terms(how, (1.0, 1.0))), how, make_fabric(torch.device("cpu"), "32-true"))


def pairs() -> Pairs:
    chosen = [Chosen(place, place + 1, place < 2) for place in range(5)]
    return plain_pairs(CASES, chosen, 2, "cpu")


def never(what: str, norm: float) -> None:
    raise AssertionError(what, norm)


def gradient(machine: Machine) -> list[Tensor]:
    machine.fitting(lambda: machine.gradients(pairs(), lambda rows, parts: None))
    return [p.grad.clone() for p in machine.network.parameters() if p.grad is not None]


@pytest.mark.parametrize(("most", "rows"), [(5, 5), (4, 3), (2, 2), (1, 1)])
def test_half_as_many_at_once_have_the_same_gradient(most: int, rows: int, caplog: pytest.LogCaptureFixture) -> None:
    network = Hungry(most)
    machine = machine_of(network)
    with caplog.at_level(logging.WARNING):
        assert_close(gradient(machine), gradient(machine_of(toy())), atol=1e-7, rtol=1e-4)
    assert machine.rows == rows
    assert max(network.asked[-(5 // rows) :]) <= most
    assert len(machine.notes) == len(caplog.records) == {5: 0, 3: 1, 2: 2, 1: 3}[rows]
    if rows == 1:
        assert machine.notes[-1].startswith("cpu ran out of memory: one pair at once, gradients added up")


def test_without_memory_for_one_pair_it_goes_to_the_cpu_and_keeps_its_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hungry(5)
    machine = machine_of(network)
    gradient(machine)
    machine.descend(0.01, 0, never)
    moments = machine.optimiser.state_dict()["state"]
    monkeypatch.setattr(
        Machine, "where", property(lambda self: "cpu" if self.notes and "CPU" in self.notes[-1] else "cuda")
    )
    network.most = 0
    before = make_fabric

    def with_memory(*settings: object) -> object:
        network.most = 5
        return before(*settings)  # type: ignore[arg-type]

    monkeypatch.setattr("covoxel.training.registration.machine.make_fabric", with_memory)
    gradient(machine)
    assert machine.rows == 5
    assert machine.notes[-1] == "cuda ran out of memory at one pair: training went on on the CPU"
    kept = machine.optimiser.state_dict()["state"]
    assert all(torch.equal(kept[i]["exp_avg"], moments[i]["exp_avg"]) for i in moments)
    assert moments


CPU_ERRORS = [
    torch.OutOfMemoryError("out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."),
    MemoryError("Unable to allocate 8.00 GiB for an array with shape (1073741824,) and data type float64"),
]


@pytest.mark.parametrize("error", CPU_ERRORS)
def test_on_the_cpu_the_error_is_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        gradient(machine_of(Hungry(0, error)))


@pytest.mark.parametrize("error", CPU_ERRORS)
def test_whatever_error_says_so_fewer_pairs_are_taken_at_once(error: Exception) -> None:
    machine = machine_of(Hungry(2, error))
    assert_close(gradient(machine), gradient(machine_of(toy())), atol=1e-7, rtol=1e-4)
    assert machine.rows == 2


def test_judging_fits_too_and_says_the_same() -> None:
    machine, plain = machine_of(Hungry(2)), machine_of(toy())
    said, expected = (
        m.fitting(lambda m=m: m.judged(m.network, lambda rows: pairs().rows(rows), 5))  # type: ignore[misc]
        for m in (machine, plain)
    )
    assert said["similarity"] == pytest.approx(expected["similarity"])
    assert len(said["labels"]) < len(said["similarity"]) == 5 or len(said["labels"]) == 5
    assert not machine.network.training


def test_mixed_precision_keeps_the_objective_in_full_precision() -> None:
    how = recipe(supervision="labels", batch=5)
    fabric = make_fabric(torch.device("cpu"), "bf16-mixed")
    seen: list[torch.dtype] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = toy()

        def forward(self, fixed: Tensor, moving: Tensor) -> Said:
            said: Said = self.inner(fixed, moving)
            seen.append(said.displacement_vox.dtype)
            return said

    machine = Machine(Watched(), Objective(how, Terms(how, (1.0, 1.0))), how, fabric)
    kinds: list[torch.dtype] = []

    def watch(rows: slice, parts: dict[str, Tensor]) -> None:
        kinds.extend(part.dtype for part in parts.values())

    machine.gradients(pairs(), watch)
    assert seen == [torch.bfloat16]
    assert set(kinds) == {torch.float32}
    assert_close([p.grad for p in machine.network.parameters()], gradient(machine_of(toy())), atol=0.01, rtol=0.05)


def test_a_step_goes_down_the_gradient_and_the_average_follows() -> None:
    machine = machine_of(toy(), recipe(supervision="labels", batch=5, average=0.9))
    before = [p.detach().clone() for p in machine.network.parameters()]
    gradient(machine)
    machine.descend(0.25, 2, never)
    assert {group["lr"] for group in machine.optimiser.param_groups} == {0.25}
    here, average = machine.network.parameters(), machine.average.parameters()
    for old, new, mean in zip(before, here, average, strict=True):
        assert not torch.equal(old, new)
        assert_close(mean, 0.75 * old + 0.25 * new)  # of step 3 it keeps 1 - 1/4


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_gradient_that_is_no_number_is_told_unless_gradients_are_scaled(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def diverged(what: str, norm: float) -> None:
        told.append(f"{what} {norm}")
        raise ArithmeticError

    machine = machine_of(toy())
    monkeypatch.setattr(type(machine.fabric.strategy.precision), "precision", precision)
    gradient(machine)
    before = [p.detach().clone() for p in machine.network.parameters()]
    for weight in machine.network.parameters():
        weight.grad = torch.full_like(weight, torch.inf)
    if precision == "16-mixed":
        machine.descend(0.01, 0, diverged)
        assert not told
        return
    with pytest.raises(ArithmeticError):
        machine.descend(0.01, 0, diverged)
    assert told == ["gradient inf"] or told == ["gradient nan"]
    assert_close([*machine.network.parameters()], before, atol=0, rtol=0)


def test_the_rate_rises_and_falls() -> None:
    how = recipe(steps=100, warm_up=10, learning_rate=0.5)
    rates = [Schedule(how).rate(step, 0) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25)
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))
    assert 0 < rates[-1] < 1e-3
    constant = Schedule(recipe(steps=100, warm_up=10, decay="constant", learning_rate=0.5))
    assert {constant.rate(step, 0) for step in range(10, 100)} == {0.5}


def test_every_stage_has_its_share_of_the_steps_and_a_schedule_of_its_own() -> None:
    schedule = Schedule(recipe(steps=10, warm_up=1), 3)
    assert [schedule.end(stage) for stage in range(3)] == [3, 6, 10]
    assert schedule.rate(3, 1) == schedule.rate(0, 0) == pytest.approx(0.01)
    short = Schedule(recipe(steps=3, warm_up=50))
    assert [short.rate(step, 0) for step in range(3)] == pytest.approx([0.0002, 0.0004, 0.0006])
