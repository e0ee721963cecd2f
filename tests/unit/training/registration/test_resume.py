"""A training that was killed ends with the same bits; a checkpoint of another one is refused by what differs."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.registration import Recipe, Term, TrainedRegistration, train_registration
from nets.registration import REGISTRATION_NETS
from tests.unit.training.registration.toys import Interrupt, interrupt_after, recipe, shifted_cases, toy

CASES = shifted_cases((12, 10), labelled=True)
HOW = recipe(
    steps=9, check_every=2, average=0.8, supervision="labels", consistency=(Term("invertibility", 0.1),), held_out=0.3
)
ROOT = Path(__file__).resolve().parents[4]


def cascade() -> nn.Module:
    torch.manual_seed(3)
    settings = {"encoder": [4, 4], "decoder": [4, 4], "half": 4, "last": [4]}
    return REGISTRATION_NETS["cascade"](2, stages=2, schedule="frozen", stage_settings=settings)


def everything(path: Path) -> dict[str, object]:
    """Weights, averages, moments and best weights of a checkpoint, and all its numbers."""
    saved = torch.load(path, weights_only=True)
    flat: dict[str, object] = {"about": saved["about"]}

    def walk(name: str, part: object) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                walk(f"{name}.{key}", value)
        else:
            flat[name] = part

    walk("tensors", saved["tensors"])
    return flat


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    assert one.keys() == other.keys()
    assert sum(isinstance(value, Tensor) for value in one.values()) > 20
    return all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]  # type: ignore[arg-type]
        for name, value in one.items()
    )


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (lambda: toy(dropout=0.3), HOW),
        (lambda: toy(dropout=0.3), replace(HOW, supervision="warps", consistency=())),
        (cascade, replace(HOW, consistency=())),
    ],
    ids=["labels", "warps", "stages"],
)
@pytest.mark.parametrize("stop", [1, 5, 8])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, make: Callable[[], nn.Module], how: Recipe, stop: int
) -> None:
    def train(name: str, **more: object) -> TrainedRegistration:
        path = tmp_path / f"{name}.pt"
        return train_registration(make(), CASES, how, values=2, checkpoint=path, **more)  # type: ignore[arg-type]

    whole = train("whole")
    with pytest.raises(Interrupt):
        train("stopped", checkpoint_seconds=0, progress=interrupt_after(stop))
    torch.rand(7)  # what others draw meanwhile is of no matter
    seen: list[int] = []
    again = train("stopped", progress=lambda done, *_: seen.append(done))
    assert seen == list(range(stop + 1, 10))
    assert same(everything(tmp_path / "whole.pt"), everything(tmp_path / "stopped.pt"))
    assert all(map(torch.equal, whole.network.state_dict().values(), again.network.state_dict().values()))
    assert whole.curve.equals(again.curve)
    assert (whole.best_step, whole.notes) == (again.best_step, again.notes)
    finished = train("stopped", progress=interrupt_after(0))
    assert all(map(torch.equal, whole.network.state_dict().values(), finished.network.state_dict().values()))


def test_nothing_is_lost_when_progress_ends_a_training_long_before_the_next_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "stopped.pt"

    def train(progress: Callable[[int, int, float], None]) -> None:
        train_registration(toy(), CASES, HOW, values=2, checkpoint=path, checkpoint_seconds=9999, progress=progress)

    with pytest.raises(Interrupt):
        train(interrupt_after(5))
    seen: list[int] = []
    train(lambda done, *_: seen.append(done))
    assert seen == [6, 7, 8, 9]


SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from covoxel.training.registration import train_registration
from tests.unit.training.registration import test_resume as t
train_registration(t.toy(dropout=0.3), t.CASES, t.LONG, values=2, checkpoint=Path(sys.argv[1]),
                   checkpoint_seconds=0.1, progress=lambda *_: time.sleep(0.05))
"""
LONG = replace(HOW, steps=40)


def test_a_killed_process_ends_with_the_same_bits_when_it_is_run_again(tmp_path: Path) -> None:
    """Killed without a word between two checkpoints; the rest is trained here."""
    path = tmp_path / "killed.pt"
    killed = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT)
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert '"finished": false' in str(everything(path)["about"])
    for name in ("killed.pt", "whole.pt"):
        train_registration(toy(dropout=0.3), CASES, LONG, values=2, checkpoint=tmp_path / name)
    assert same(everything(tmp_path / "whole.pt"), everything(path))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "state.pt"
    train_registration(toy(), CASES, HOW, values=2, checkpoint=path)
    return path


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"recipe": replace(HOW, learning_rate=0.02, seed=1)},
         "its learning_rate is 0.01, here 0.02; its seed is 0, here 1"),
        ({"recipe": replace(HOW, name="other")}, "its name is 'toy', here 'other'"),
        ({"cases": CASES[:-2]}, "its cases is '12 cases, .*, here '10 cases, "),
        ({"values": 3}, "its values is 2, here 3"),
        ({"spacing_mm": (1.0, 2.0)}, r"its spacing_mm is \[1.0, 1.0\], here \[1.0, 2.0\]"),
        ({"network": cascade()}, "(?s:.*Missing key)"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused(checkpoint: Path, change: dict[str, object], rule: str) -> None:
    kept = checkpoint.read_bytes()
    call: dict[str, object] = {"network": toy(), "cases": CASES, "recipe": HOW, "values": 2} | change
    with pytest.raises(ValueError, match=rf"state\.pt is of another training: .*{rule}"):
        train_registration(**call, checkpoint=checkpoint)  # type: ignore[arg-type]
    assert checkpoint.read_bytes() == kept


def test_a_file_that_is_no_checkpoint_is_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"words"):
        checkpoint.write_bytes(broken)
        with pytest.raises(ValueError, match=r"state\.pt is no checkpoint"):
            train_registration(toy(), CASES, HOW, values=2, checkpoint=checkpoint)
    from covoxel.training.checkpoint import save_checkpoint

    save_checkpoint(checkpoint, {"settings": {}}, {})
    with pytest.raises(ValueError, match=r"state\.pt is a checkpoint of another kind of training"):
        train_registration(toy(), CASES, HOW, values=2, checkpoint=checkpoint)


def test_a_checkpoint_says_which_code_made_it(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import covoxel

    assert covoxel.__version__ in str(everything(checkpoint)["about"])
    assert train_registration(toy(), CASES, HOW, values=2, checkpoint=checkpoint).notes == ()
    monkeypatch.setattr(covoxel, "__version__", "9.9.9")
    (note,) = train_registration(toy(), CASES, HOW, values=2, checkpoint=checkpoint).notes
    assert note == "the checkpoint after step 9 was made with another covoxel"
