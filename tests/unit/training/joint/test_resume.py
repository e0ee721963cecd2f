"""A joint training that was killed in any phase ends with the same bits; another one's checkpoint is refused."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint import FusedLabels, JointRecipe, SegmentationRecipe, TrainedJoint, train_joint
from tests.unit.training.joint.toys import cases, recipe, segmenter
from tests.unit.training.registration.test_resume import everything, same
from tests.unit.training.registration.toys import Interrupt, interrupt_after, toy

ROOT = Path(__file__).resolve().parents[4]
CASES = cases([0, 1, 2])
HOW = recipe(
    registration=replace(recipe().registration, average=0.8),
    segmentation=SegmentationRecipe(warm_up=1, learning_rate=0.01, average=0.5),
    held_out=1,
)
FUSED = {"p3v1": FusedLabels((CASES[7].image > 0.5).long(), CASES[7].image.clamp(0, 1))}
STEPS = 13
"""Three of the registration network, four of the segmentation network, six of both."""


def train(path: Path, how: JointRecipe = HOW, **more: object) -> TrainedJoint:
    call: dict[str, object] = {"values": 2, "fused": FUSED, "checkpoint": path} | more
    return train_joint(toy(dropout=0.3), segmenter(dropout=0.3), CASES, how, **call)  # type: ignore[arg-type]


def equal(one: nn.Module | None, other: nn.Module | None) -> bool:
    assert one is not None
    assert other is not None
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedJoint]:
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    return path, train(path)


@pytest.mark.parametrize("stop", [1, 3, 5, 7, 8, 11])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, stop: int, whole: tuple[Path, TrainedJoint]
) -> None:
    """Stopped within each phase, and at the ends of two."""
    path = tmp_path / "stopped.pt"
    with pytest.raises(Interrupt):
        train(path, checkpoint_seconds=0, progress=interrupt_after(stop))
    torch.rand(7)  # what others draw meanwhile is of no matter
    seen: list[int] = []
    again = train(path, progress=lambda done, *_: seen.append(done))
    assert seen == list(range(stop + 1, STEPS + 1))
    assert_whole(path, again, whole)
    finished = train(path, progress=interrupt_after(0))
    assert equal(finished.segmentation, again.segmentation)


def test_stopped_between_two_checkpoints_it_does_again_what_was_not_saved(
    tmp_path: Path, whole: tuple[Path, TrainedJoint]
) -> None:
    path = tmp_path / "stopped.pt"
    with pytest.raises(Interrupt):
        train(path, checkpoint_seconds=1000, progress=interrupt_after(10))
    seen: list[int] = []
    again = train(path, progress=lambda done, *_: seen.append(done))
    assert seen == list(range(8, STEPS + 1))  # a phase that has ended is kept
    assert_whole(path, again, whole)


def assert_whole(path: Path, again: TrainedJoint, whole: tuple[Path, TrainedJoint]) -> None:
    """The same checkpoint, networks, curve and notes."""
    assert same(everything(whole[0]), everything(path))
    trained = whole[1]
    for name in ("registration", "segmentation", "registration_alone", "segmentation_alone"):
        assert equal(getattr(trained, name), getattr(again, name)), name
    assert trained.curve.equals(again.curve)
    assert (trained.notes, trained.judging) == (again.notes, again.judging)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from covoxel.training.registration.machine import make_fabric
make_fabric(torch.device("cpu"), "32-true")  # imported here, and not in each child
from tests.unit.training.joint import test_resume as t

def kill(at):
    def progress(done, *_):
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)
    return progress

for at in (2, 6, 12):
    child = os.fork()
    if not child:
        t.train(Path(sys.argv[1]), checkpoint_seconds=0, progress=kill(at))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


def test_killed_without_a_word_in_each_phase_it_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[Path, TrainedJoint]
) -> None:
    path = tmp_path / "killed.pt"
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT, check=True, timeout=60)
    assert '"finished": false' in str(everything(path)["about"])
    assert_whole(path, train(path), whole)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"how": replace(HOW, anatomy_weight=0.5, ratio=3.0)},
         "its ratio is 2.0, here 3.0; its anatomy_weight is 1.0, here 0.5"),
        ({"how": replace(HOW, segmentation=replace(HOW.segmentation, clip=2.0))},
         "its segmentation.clip is 1.0, here 2.0"),
        ({"how": replace(HOW, registration=replace(HOW.registration, seed=5))}, "its registration.seed is 0, here 5"),
        ({"fused": {}}, "its cases is '8 cases, .*, 1 with fused labels, .*, here '8 cases, .*, 0 with fused"),
        ({"known": {"p0v0": {1}}, "values": 3}, "its values is 2, here 3"),
        ({"spacing_mm": (1.0, 2.0)}, r"its spacing_mm is \[1.0, 1.0\], here \[1.0, 2.0\]"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused(
    whole: tuple[Path, TrainedJoint], change: dict[str, object], rule: str
) -> None:
    kept = whole[0].read_bytes()
    with pytest.raises(ValueError, match=rf"whole\.pt is of another training: .*{rule}"):
        train(whole[0], **change)  # type: ignore[arg-type]
    assert whole[0].read_bytes() == kept


def test_other_settings_are_refused_while_the_registration_network_is_trained_alone(tmp_path: Path) -> None:
    """Those that it depends on; others may still be chosen."""
    path = tmp_path / "state.pt"
    with pytest.raises(Interrupt):
        train(path, checkpoint_seconds=0, progress=interrupt_after(2))
    other = replace(HOW, registration=replace(HOW.registration, learning_rate=0.5))
    with pytest.raises(ValueError, match=r"state\.registration\.pt is of another training: its learning_rate is 0.01"):
        train(path, other)
    seen: list[int] = []
    train(path, replace(HOW, anatomy_weight=0.5), progress=lambda done, *_: seen.append(done))
    assert seen[0] == 3


def test_a_checkpoint_of_one_network_alone_is_refused(whole: tuple[Path, TrainedJoint], tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(whole[0].with_name("whole.registration.pt").read_bytes())
    with pytest.raises(ValueError, match=r"state\.pt is of another training"):
        train(path)
    path.write_bytes(b"words")
    with pytest.raises(ValueError, match=r"state\.pt is no checkpoint"):
        train(path)


def test_the_state_holds_what_the_result_needs(whole: tuple[Path, TrainedJoint]) -> None:
    saved = everything(whole[0])
    assert {name.split(".")[1] for name in saved if "." in name} == {"alone", "machines"}
    assert all(isinstance(value, Tensor | float | int | bool | list | tuple | str | None) for value in saved.values())
