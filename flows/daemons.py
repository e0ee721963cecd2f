"""Programs that `deploy` leaves running: started detached with their output in a file, stopped by their id."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from covoxel import processes

STOP_SECONDS = 15.0


class Daemon:
    """One program in the background, known by a file in a folder.

    Parameters
    ----------
    name
        Names the files `NAME.json` (process id) and `NAME.log` (its output).
    folder
        Where the files lie.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._file = folder / f"{name}.json"

    def facts(self) -> dict[str, str]:
        """What `start` was told to remember, if the program still runs; else nothing."""
        try:
            known = json.loads(self._file.read_text())
            alive = _birth(int(known["pid"])) == known["birth"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return known if alive else {}

    def start(self, command: Sequence[str], environment: Mapping[str, str], **facts: str) -> None:
        """Start the program in a session of its own, so that it outlives this one."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        child = processes.start(command, self.log, environment, outlives=True)
        known = {"pid": str(child.pid), "birth": _birth(child.pid), **facts}
        self._file.write_text(json.dumps(known))

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
