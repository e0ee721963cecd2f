"""Processes that are started: out of the terminal's reach, ended with their starter, their output in files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from covoxel import processes

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import time; time.sleep(300)"
STARTED = """
import sys, threading, time
from pathlib import Path
from covoxel import processes
command, log = [sys.executable, "-c", "import time; time.sleep(300)"], Path(sys.argv[1])
def start():
    print(processes.start(command, log, outlives=sys.argv[3] == "outlives").pid, flush=True)
if sys.argv[2] == "thread":
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
time.sleep(1)
print("ready", flush=True)
time.sleep(300)
"""
POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from covoxel import processes
def facts(_):
    return os.getpid(), os.getsid(0)
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), processes.begin_worker)
    with processes.birth_of_workers():
        coming = pool.submit(facts, 0)
    if sys.argv[1] == "born":
        print(*coming.result(), flush=True)
    else:
        print("being born", flush=True)
    time.sleep(300)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def dies(pid: int) -> bool:
    """Whether a process is gone soon; a busy machine takes a moment."""
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def script(*arguments: object, group: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=group,
    )


def line(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline().strip()


def end(run: subprocess.Popen[str]) -> str:
    """Kill a script; what it wrote to standard error."""
    run.kill()
    return run.communicate()[1]


def test_a_program_has_a_session_of_its_own_no_input_and_its_output_in_a_file(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.getcwd(), os.environ['X'])"
    (tmp_path / "log").write_text("before\n")
    child = processes.start(
        [sys.executable, "-c", code], tmp_path / "log", {**os.environ, "X": "y"}, folder=tmp_path, outlives=True
    )
    assert child.wait() == 0
    assert (tmp_path / "log").read_text() == f"before\nTrue '' {tmp_path} y\n"


def test_a_program_inherits_the_files_it_is_given_and_makes_its_own_for_its_owner_alone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    code = f"import os; os.write({writer}, b'1'); open('made', 'w')"
    child = processes.start(
        [sys.executable, "-c", code], tmp_path / "log", folder=tmp_path, descriptors=[writer], private=True
    )
    assert child.wait() == 0, (tmp_path / "log").read_text()
    assert os.read(reader, 9) == b"1"
    assert {oct(path.stat().st_mode)[-3:] for path in tmp_path.iterdir()} == {"600"}
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("who", ["main", "thread"])
def test_a_program_dies_with_the_process_and_not_with_the_thread_that_started_it(tmp_path: Path, who: str) -> None:
    run = script("-c", STARTED, tmp_path / "log", who, "dies")
    child = int(line(run))
    assert line(run) == "ready"
    assert alive(child)
    end(run)
    assert dies(child)


def test_a_program_that_shall_outlive_does(tmp_path: Path) -> None:
    run = script("-c", STARTED, tmp_path / "log", "main", "outlives")
    child = int(line(run))
    assert line(run) == "ready"
    end(run)
    time.sleep(0.3)
    assert alive(child)
    os.kill(child, signal.SIGKILL)


def test_a_program_whose_parent_died_before_the_kernel_knew_ends_itself() -> None:
    before = processes._dying_with(parent=1)  # not ours
    pid = os.fork()
    if pid == 0:
        before()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_ending_kills_the_whole_session(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SLEEP!r}])"]
    child = processes.start(command, tmp_path / "log")
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    limit = time.monotonic() + 10
    while not children.read_text() and time.monotonic() < limit:
        time.sleep(0.02)
    grandchild = int(children.read_text())
    processes.end_children()
    assert child.returncode == -signal.SIGKILL
    assert dies(grandchild)
    assert processes._children == []


def test_a_worker_is_out_of_the_terminals_reach_and_dies_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = script(tmp_path / "pool.py", "born")
    pid, session = map(int, line(run).split())
    assert pid == session
    end(run)
    assert dies(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_being_born_is_deaf_and_says_nothing(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool.py").write_text(POOL.replace("import os, sys, time", "import os, sys, time; time.sleep(0.5)"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = script(tmp_path / "pool.py", "unborn", group=True)
    assert line(run) == "being born"
    children = [
        int(pid)
        for task in Path(f"/proc/{run.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(children) == 1
    os.kill(children[0], number)
    time.sleep(0.3)
    assert alive(children[0])
    assert "Traceback" not in end(run)
    assert dies(children[0])
