"""A call of the command line in a pseudo-terminal, which is interrupted in a stage, and what it leaves."""

import os
import pty
import re
import select
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import ROOT

LONGEST_SECONDS = 5400.0
PATIENCE_SECONDS = 60.0
MARK = "COVOXEL_INTERRUPTED_CALL"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r"^([a-z][a-z0-9-]*) +[━╸╺]", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Parameters
    ----------
    status
        Exit status; None if it had to be killed.
    seconds
        From the interruption to the end; from the start, if there was none.
    heard
        What it wrote to the terminal, without control sequences.
    left
        Processes of its own that still run.
    """

    status: int | None
    seconds: float
    heard: str
    left: int

    @property
    def stages(self) -> list[str]:
        """Stages whose bar was shown, in their order."""
        return list(dict.fromkeys(_BAR.findall(self.heard)))

    @property
    def last_line(self) -> str:
        """The last line that is not empty."""
        return next((line.strip() for line in reversed(self.heard.splitlines()) if line.strip()), "")


class Call:
    """The command line with arguments, all but `--output`.

    Parameters
    ----------
    arguments
        Of `python -m flows`.
    state
        Folder of Prefect's state.
    """

    def __init__(self, arguments: Sequence[str], state: Path) -> None:
        self._arguments, self._state = list(arguments), state

    def run(
        self,
        output: Path,
        *,
        stop_in: str | None = None,
        shows: str = "[━╸╺]",
        after: float = 0.5,
        by: signal.Signals | str | None = None,
    ) -> Ended:
        """Run it into a folder to its end.

        Parameters
        ----------
        output
            Output folder.
        stop_in, shows, after
            Stage in which it is interrupted, so many seconds after the line of its bar showed a regular expression.
        by
            Signal that it is sent; None: Ctrl-C at the terminal; "server": its private server is killed.
        """
        mark = uuid.uuid4().hex
        pid, terminal = self._start(output, mark)
        heard, begun, sent, seen = "", time.monotonic(), 0.0, 0.0
        while True:
            heard += _read(terminal)
            now = time.monotonic()
            if stop_in is not None and not seen and re.search(rf"(?m)^{stop_in} .*{shows}", _plain(heard)):
                seen = now
            if seen and not sent and now - seen > after:
                _interrupt(pid, terminal, by, mark)
                sent = time.monotonic()
            done, code = os.waitpid(pid, os.WNOHANG)
            if done or now - (sent or begun) > (PATIENCE_SECONDS if sent else LONGEST_SECONDS):
                break
        ended = time.monotonic() - (sent or begun)
        status = os.waitstatus_to_exitcode(code) if done else None
        left = _of_call(mark)
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        heard += _read(terminal)
        os.close(terminal)
        return Ended(status, ended, _plain(heard), len(left))

    def _start(self, output: Path, mark: str) -> tuple[int, int]:
        environment = {**os.environ, MARK: mark, "PREFECT_HOME": str(self._state.resolve()), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "flows", *self._arguments, "--output", str(output.resolve())]
        pid, terminal = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(sys.executable, command, environment | {"PYTHONPATH": str(ROOT)})
        return pid, terminal


def _interrupt(pid: int, terminal: int, by: signal.Signals | str | None, mark: str) -> None:
    if by is None:
        os.write(terminal, b"\x03")
    elif isinstance(by, signal.Signals):
        os.kill(pid, by)
    else:
        for server in [each for each in _of_call(mark) if re.search(rb"prefect.server|flows.serve", _command(each))]:
            os.kill(server, signal.SIGKILL)


def _of_call(mark: str) -> list[int]:
    """Ids of the processes of a call that are no zombies."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _read(terminal: int) -> str:
    """What the terminal has to show, after a tenth of a second at most."""
    if not select.select([terminal], [], [], 0.1)[0]:
        return ""
    try:
        return os.read(terminal, 1 << 20).decode(errors="replace")
    except OSError:  # its last process ended
        return ""


def _plain(text: str) -> str:
    return _CONTROLS.sub("", text).replace("\r", "\n")
