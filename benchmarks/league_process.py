"""One part of the league in a process of its own: its job goes in as JSON, what it found comes out as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.measure import thread_environment
from covoxel.io import write_json


class PartFailed(RuntimeError):
    """A process ended before its work was done; the message is its last line."""


def run_module(module: str, job: object, path: Path, *, threads: int) -> Any:
    """Run `python -m module JOB FOUND` and give what it wrote to FOUND; `path` is that file, its log beside it.

    Raises
    ------
    PartFailed
        If the process failed or was killed; everything it said is in the log.
    """
    asked, log = path.with_suffix(".job.json"), path.with_suffix(".log")
    path.unlink(missing_ok=True)
    write_json(asked, job)
    command = [sys.executable, "-m", module, str(asked), str(path)]
    environment = {**os.environ, **thread_environment(threads)}
    with log.open("a", encoding="utf-8") as lines:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=lines, stderr=lines, check=False)
    if done.returncode or not path.is_file():
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise PartFailed(f"{said[-1] if said else f'exit status {done.returncode}'} (log: {log})")
    return json.loads(path.read_text(encoding="utf-8"))
