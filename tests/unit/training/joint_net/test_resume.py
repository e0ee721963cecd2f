"""Training of one network, killed in either phase, ends with the same bits; another one's checkpoint is refused."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from covoxel.training.joint import FusedLabels
from covoxel.training.joint_net import JointNetRecipe, TrainedJointNet, train_joint_net
from tests.unit.training.joint.test_resume import equal
from tests.unit.training.joint.toys import cases
from tests.unit.training.joint_net.toys import net, recipe, toy
from tests.unit.training.registration.test_resume import everything, same
from tests.unit.training.registration.toys import Interrupt, interrupt_after

ROOT = Path(__file__).resolve().parents[4]
CASES = cases([0, 1, 2])
FUSED = {"p3v1": FusedLabels((CASES[7].image > 0.5).long(), CASES[7].image.clamp(0, 1))}
HOW = recipe(average=0.8, held_out=1, drop_labels=0.3, check_every=2, foreign_volume=0.1, registration_steps=4, steps=5)
STEPS = 9
"""Four of the registration alone, five of the whole network."""


def train(path: Path, how: JointNetRecipe = HOW, **more: object) -> TrainedJointNet:
    call: dict[str, object] = {"values": 2, "fused": FUSED, "checkpoint": path} | more
    return train_joint_net(net("ncr-net", outputs=2), CASES, how, **call)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedJointNet]:
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    return path, train(path)


def assert_whole(path: Path, again: TrainedJointNet, whole: tuple[Path, TrainedJointNet]) -> None:
    """The same checkpoint, network, curve and notes."""
    trained = whole[1]
    assert same(everything(whole[0]), everything(path))
    assert equal(trained.network, again.network)
    assert trained.curve.equals(again.curve)
    assert (trained.notes, trained.judging, trained.best_step) == (again.notes, again.judging, again.best_step)


@pytest.mark.parametrize("stop", [2, 4, 5, 7])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, stop: int, whole: tuple[Path, TrainedJointNet]
) -> None:
    """Stopped within each phase, at the end of the first, and right after it."""
    path = tmp_path / "stopped.pt"
    with pytest.raises(Interrupt):
        train(path, checkpoint_seconds=0, progress=interrupt_after(stop))
    torch.rand(7)  # what others draw meanwhile is of no matter
    seen: list[int] = []
    again = train(path, progress=lambda done, *_: seen.append(done))
    assert seen == list(range(stop + 1, STEPS + 1))
    assert_whole(path, again, whole)
    assert equal(train(path, progress=interrupt_after(0)).network, again.network)


def test_stopped_between_two_checkpoints_it_does_again_what_was_not_saved(
    tmp_path: Path, whole: tuple[Path, TrainedJointNet]
) -> None:
    path = tmp_path / "stopped.pt"
    with pytest.raises(Interrupt):
        train(path, checkpoint_seconds=1000, progress=interrupt_after(7))
    seen: list[int] = []
    again = train(path, progress=lambda done, *_: seen.append(done))
    assert seen == list(range(5, STEPS + 1))  # a phase that has ended is kept
    assert_whole(path, again, whole)


def test_a_network_that_draws_numbers_of_its_own_ends_with_the_same_bits(tmp_path: Path) -> None:
    def train_toy(name: str, **more: object) -> TrainedJointNet:
        call: dict[str, object] = {"values": 2, "checkpoint": tmp_path / name} | more
        return train_joint_net(toy(dropout=0.3), CASES, recipe(drop_labels=0.5), **call)  # type: ignore[arg-type]

    once = train_toy("once.pt")
    with pytest.raises(Interrupt):
        train_toy("twice.pt", checkpoint_seconds=0, progress=interrupt_after(4))
    torch.rand(3)
    assert equal(train_toy("twice.pt").network, once.network)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from covoxel.training.registration.machine import make_fabric
make_fabric(torch.device("cpu"), "32-true")  # imported here, and not in each child
from tests.unit.training.joint_net import test_resume as t

def kill(at):
    def progress(done, *_):
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
    return progress

for at in (2, 6):
    child = os.fork()
    if not child:
        t.train(Path(sys.argv[1]), checkpoint_seconds=0, progress=kill(at))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


def test_killed_without_a_word_in_each_phase_it_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[Path, TrainedJointNet]
) -> None:
    path = tmp_path / "killed.pt"
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT, check=True, timeout=240)
    assert '"finished": false' in str(everything(path)["about"])
    assert_whole(path, train(path), whole)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"how": replace(HOW, fused_weight=0.5)}, "its fused_weight is 1.0, here 0.5"),
        ({"how": replace(HOW, drop_labels=0.0, clip=2.0)}, "its drop_labels is 0.3, here 0.0; its clip is 1.0, here 2"),
        ({"fused": {}}, "its cases is '8 cases, .*, 1 with fused labels, .*, here '8 cases, .*, 0 with fused"),
        ({"spacing_mm": (1.0, 2.0)}, r"its spacing_mm is \[1.0, 1.0\], here \[1.0, 2.0\]"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    whole: tuple[Path, TrainedJointNet], change: dict[str, object], rule: str
) -> None:
    kept = whole[0].read_bytes()
    with pytest.raises(ValueError, match=rf"whole\.pt is of another training: .*{rule}"):
        train(whole[0], **change)  # type: ignore[arg-type]
    assert whole[0].read_bytes() == kept
