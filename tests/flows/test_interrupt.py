"""The end of a process before its time: by signals and by `leave`, in one sentence, with status 1, nothing left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROCESS = """
import sys, threading, time
from pathlib import Path
from covoxel import processes
from covoxel.io import atomic_path
from flows import interrupt
how, folder = sys.argv[1], Path(sys.argv[2])
interrupt.listen()
child = processes.start([sys.executable, "-c", "import time; time.sleep(300)"], folder / "log")
def write():
    with atomic_path(folder / "half.bin") as temporary:
        temporary.write_bytes(b"half")
        time.sleep(300)
threading.Thread(target=write).start()
def train():
    interrupt.saving.add(1)
    interrupt.stopping.wait()
    if how == "stubborn":
        time.sleep(300)
    time.sleep(0.5)
    (folder / "saved").write_text("all")
    interrupt.saving.discard(1)
if how != "plain":
    threading.Thread(target=train).start()
while not list(folder.glob(".tmp-*")) or (how != "plain" and not interrupt.saving):
    time.sleep(0.01)
print(child.pid, flush=True)
if how == "lost":
    interrupt.leave("error: the server is gone")
threading.Lock().acquire() and threading.Event().wait()
"""


def start(how: str, folder: Path, before: str = "") -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", before + PROCESS, how, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return run


def ready(run: subprocess.Popen[str]) -> int:
    """Wait until a process is at work; the id of its child."""
    assert run.stdout is not None
    return int(run.stdout.readline())


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_in_one_sentence(tmp_path: Path, number: signal.Signals) -> None:
    run = start("plain", tmp_path)
    child, began = ready(run), time.monotonic()
    run.send_signal(number)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 1
    assert time.monotonic() - began < 4
    assert errors == "interrupted; run the same call again to go on, what is finished is kept\n"
    assert gone(child)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_a_training_saves_where_it_is(tmp_path: Path) -> None:
    run = start("training", tmp_path)
    ready(run)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 1
    assert (tmp_path / "saved").read_text() == "all"
    run.communicate()


def test_a_second_signal_does_not_wait_for_a_training_and_two_at_once_are_one(tmp_path: Path) -> None:
    run = start("stubborn", tmp_path)
    ready(run)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert run.poll() is None
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert (run.returncode, errors.count("interrupted")) == (1, 1)


def test_a_training_that_goes_on_is_left_after_the_grace(tmp_path: Path) -> None:
    run = start("stubborn", tmp_path)
    ready(run)
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 1
    assert 4 < time.monotonic() - began < 9
    run.communicate()


def test_who_leaves_says_why(tmp_path: Path) -> None:
    run = start("lost", tmp_path)
    child = ready(run)
    _, errors = run.communicate(timeout=30)
    assert (run.returncode, errors) == (1, "error: the server is gone\n")
    assert (tmp_path / "saved").exists()
    assert gone(child)


def test_a_signal_that_was_ignored_stays_so(tmp_path: Path) -> None:
    run = start("plain", tmp_path, before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    ready(run)
    run.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert run.poll() is None
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 1
    run.communicate()


def test_a_signal_while_the_command_line_is_being_imported_is_heard(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "flows", "--help"]
    run = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "importing\n"
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30)[1].startswith("interrupted; ")
    assert run.returncode == 1
