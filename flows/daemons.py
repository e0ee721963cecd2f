"""Programs that `deploy` leaves running: started detached with their output in a file, stopped by their id."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from covoxel import processes
from flows.secret import open_private, read_private, write_private

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 15.0


class Daemon:
    """One program in the background, known by a file in a folder.

    Parameters
    ----------
    name
        Names the files `NAME.json` (process id) and `NAME.log` (its output), which only their owner can read.
    folder
        Where the files lie; closed to other users.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._file = folder / f"{name}.json"

    def facts(self) -> dict[str, str]:
        """What `start` was given to remember, if the program still runs; else nothing."""
        known = self.remembered()
        return known if known and _birth(int(known["pid"])) == known["birth"] else {}

    def remembered(self) -> dict[str, str]:
        """What `start` was given to remember, also if the program has ended by itself; nothing after `stop`."""
        try:
            known = json.loads(read_private(self._file))
            int(known["pid"]), known["birth"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return dict(known)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        private: bool = False,
        **facts: str,
    ) -> None:
        """Start the program in a session of its own, so that it outlives this one.

        Parameters
        ----------
        command
            The program and its arguments; it runs in the folder of the checkout.
        environment
            Its environment.
        descriptors
            Open files that it inherits.
        private
            Whether what it writes is for its owner alone; otherwise its files have the usual modes.
        facts
            What `facts` gives back while it runs.
        """
        os.close(open_private(self.log))
        child = processes.start(
            command,
            self.log,
            environment,
            folder=ROOT,
            outlives=True,
            descriptors=descriptors,
            private=private,
        )
        known = {"pid": str(child.pid), "birth": _birth(child.pid), **facts}
        write_private(self._file, json.dumps(known))

    def last_line(self) -> str:
        """The last line of the output that is not empty; a remark if there is none."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "it wrote nothing")

    def stop(self) -> bool:
        """End the program and all it started; False if it did not run."""
        known = self.facts()
        self._file.unlink(missing_ok=True)
        if not known:
            return False
        pid = int(known["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
            end = time.monotonic() + STOP_SECONDS
            while _birth(pid) == known["birth"] and time.monotonic() < end:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.1)
            os.killpg(pid, signal.SIGKILL)
        return True


def _birth(pid: int) -> str:
    """When a process was born, so that a number used again is not taken for it; empty if it does not live."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
