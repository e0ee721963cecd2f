"""A job: one case of one stage, which knows by content whether it is done, and files its record when it is."""

import errno
import json
import logging
import math
import re
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from covoxel.io.atomic import json_text, write_text
from covoxel.io.sidecar import write_sidecar
from covoxel.manifest import STATE_FOLDER, Manifest, Record, code_sha256, fingerprint
from covoxel.memory_errors import is_out_of_memory, memory_sentence
from tasks.facts import NoFacts, fits
from tasks.layout import Layout

log = logging.getLogger(__name__)

COHORT = "@cohort"
"""In place of the id of a case (no id begins with an @): work on all cases at once."""

_FOLDERS = re.compile(r"(?<![\w.>])/(?:[^\s/'\",;:]+/)+")


@dataclass(frozen=True)
class Artifact:
    """A file that travels between stages: where it is and the SHA-256 of its content."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Job(ABC):
    """One case of one stage.

    Parameters
    ----------
    case
        Id of the case.
    output
        The output folder.
    device
        "cpu" or "cuda".
    """

    stage: ClassVar[str]
    code: ClassVar[tuple[str, ...]]
    facts: ClassVar[type] = NoFacts
    """What its record must hold for those who read it (`tasks.facts`)."""

    case: str
    output: Path
    device: str

    @abstractmethod
    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on, plain JSON values."""
        return {}

    @property
    def vital(self) -> bool:
        """Whether the case has failed if this fails; otherwise it is only flagged."""
        return True

    @property
    def of_all(self) -> bool:
        """Whether this is work on all cases at once."""
        return self.case.startswith("@")

    @property
    def layout(self) -> Layout:
        """Paths in the output folder."""
        return Layout(self.output)

    def fingerprint(self) -> str:
        """What the work is known by."""
        return fingerprint(self.inputs(), self.parameters(), code_sha256(*self.code))

    def done(self) -> Record | None:
        """The record of this work if it is done and its outputs are still what they were.

        A record without all that its readers rely on counts as none.
        """
        record = Manifest(self.output).fresh(self.stage, self.case, self.fingerprint())
        if record is None or dict(record.inputs) != dict(self.inputs()) or not fits(record.facts, self.facts):
            return None
        return record


@dataclass(frozen=True)
class Made:
    """What the work of a job made: files, and facts for the tables."""

    outputs: Sequence[Path]
    facts: Mapping[str, Any]
    gaps: str = ""
    """Tracebacks of pictures that could not be drawn; they are kept, and the work is done all the same."""


def number(value: float) -> float | None:
    """A number as a fact: None where it is not finite, because JSON cannot say so."""
    return float(value) if math.isfinite(value) else None


J = TypeVar("J", bound=Job)


def work(function: Callable[[J], Made]) -> Callable[[J], Record]:
    """Turn a function that makes a job's files into one that also files the record, last.

    The function runs with one torch thread, so that results do not depend on the number of cores. A traceback of
    what nobody foresaw, or of a picture that could not be drawn, goes to `OUTPUT/.covoxel/errors`.
    """

    @wraps(function)
    def run(job: J) -> Record:
        torch.set_num_threads(1)
        manifest = Manifest(job.output)
        started = time.perf_counter()
        try:
            manifest.forget(job.stage, job.case)
            made = function(job)
            seconds = time.perf_counter() - started
            return _file(job, manifest, made, seconds)
        except InterruptedError:  # by whoever asked for it: nothing went wrong
            raise
        except Exception:
            keep_tracebacks(job.output, f"{job.stage}_{job.case}", traceback.format_exc())
            raise

    return run


def _file(job: Job, manifest: Manifest, made: Made, seconds: float) -> Record:
    images = [path for path in made.outputs if path.name.endswith((".nii.gz", ".h5"))]
    sidecars = [write_sidecar(path, job.inputs(), dict(job.parameters()), seconds, job.device) for path in images]
    record = Record(
        stage=job.stage,
        case=job.case,
        fingerprint=job.fingerprint(),
        inputs=dict(job.inputs()),
        settings=dict(job.parameters()),
        code=code_sha256(*job.code),
        outputs=manifest.hash_outputs(list(dict.fromkeys([*made.outputs, *sidecars]))),
        facts=made.facts,
        seconds=round(seconds, 3),
        device=job.device,
    )
    if not fits(json.loads(json_text(record.facts)), job.facts):
        raise TypeError(f"the facts of {job.stage} must have all that {job.facts.__name__} names")
    manifest.write(record)
    keep_tracebacks(job.output, f"{job.stage}_{job.case}", made.gaps)
    return record


def keep_tracebacks(output: Path, name: str, text: str) -> None:
    """Keep tracebacks in `OUTPUT/.covoxel/errors`; without any, those of an earlier run go."""
    path = output / STATE_FOLDER / "errors" / f"{name}.txt"
    try:
        if text:
            write_text(path, text)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("no traceback kept of %s: %s", name, error)


def sentence(error: BaseException, job: Job | None = None) -> str:
    """One sentence, without folders of this machine, that says why a case failed."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"no room on the disk for {_name(error)}; free some and run again, what is done is kept"
    elif isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        text = f"{_name(error)} cannot be written or read: {error.strerror}"
    elif is_out_of_memory(error):
        text = memory_sentence(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{_name(error)}: {error.strerror}"
    elif isinstance(error, ValueError) and str(error):
        text = str(error)
    else:
        text = f"unexpected {type(error).__name__}: {error}"
    if job is not None:
        text = text.replace(f"{job.output}/", "")
    return _FOLDERS.sub("", " ".join(text.split()))


def _name(error: OSError) -> str:
    return Path(str(error.filename)).name if error.filename else "a file"
