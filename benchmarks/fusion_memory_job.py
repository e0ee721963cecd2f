"""One case fused in a process of its own, measured.

Run by benchmarks.fusion_memory: python -m benchmarks.fusion_memory_job JOB.json FOUND.json
"""

import json
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import Stopwatch, peak_gib
from covoxel.fusion.candidates import candidates
from covoxel.fusion.choice import Selector
from covoxel.fusion.facts import facts_of
from covoxel.fusion.source import Source
from covoxel.fusion.survey import votes_of
from covoxel.io import read_image, read_labels, write_json
from covoxel.metrics import volumes_mm3
from tasks.candidates import rules_of, voters
from tasks.evidence import AtlasFiles, CaseFiles, open_evidence
from tasks.fuse import restored, restorer
from tasks.job import Artifact
from tasks.results import result_facts, write_result
from tasks.settings import AtlasSettings, FuseSettings

GIB = 2**30


@dataclass(frozen=True)
class Job:
    """What is measured.

    Parameters
    ----------
    folder
        Of the files.
    structures, atlases
        How many.
    rule
        "select" or a fusion rule.
    calibrate
        Whether facts are found, as `calibrate` does, and not the label map.
    """

    folder: str
    structures: int
    atlases: int
    rule: str
    calibrate: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job of one file and write what was found to the other."""
    asked, found = map(Path, argv if argv is not None else sys.argv[1:])
    write_json(found, measured(Job(**json.loads(asked.read_text(encoding="utf-8")))))


def measured(job: Job) -> dict[str, float]:
    """Peak, bytes a voxel and seconds."""
    torch.set_num_threads(1)
    folder, before, seconds = Path(job.folder), peak_gib(), dict[str, float]()

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        with Stopwatch() as watch:
            yield
        seconds[name] = round(watch.cpu_seconds, 1)

    with tempfile.TemporaryDirectory(dir=folder) as scratch, _Disk(Path(scratch)) as disk, Stopwatch() as watch:
        files = _files(job, folder)
        with timed("gather"):
            context = open_evidence(files, "cpu", Path(scratch))
            fixed, everybody = context.__enter__()
        try:
            voxels = fixed.grid.size
            with timed("vote"):
                source, choice = voters(everybody, files.names, AtlasSettings(), {})
                undecided = float(votes_of(source).undecided.float().mean())
            if job.calibrate:
                with timed("facts"):
                    _facts(job, source, files)
            else:
                rules = rules_of(FuseSettings(rule=job.rule), {}, choice.kept)
                with timed("fuse"):
                    results = candidates(source, rules, onto=restorer(source, fixed.grid, fixed.grid))
                with timed("select"):
                    fused = Selector.fit([]).select(source, results).fused
                with timed("write"):
                    label_map, confidence = restored(fused, fixed.grid, fixed.grid)
                    result_facts(label_map, confidence, source.values.tolist())
                    write_result(label_map, confidence, (Path(scratch) / "l.nii.gz", Path(scratch) / "c.nii.gz"))
                    volumes_mm3(label_map, source.values.tolist())
        finally:
            context.__exit__(None, None, None)
    peak = peak_gib()
    return {
        "voxels": voxels,
        "undecided": round(undecided, 3),
        "peak GiB": round(peak, 3),
        "bytes": round((peak - before) * GIB / voxels, 1),
        "scratch GiB": round(disk.most / GIB, 3),
        "cpu seconds": round(watch.cpu_seconds, 1),
        **seconds,
    }


def _facts(job: Job, source: Source, files: CaseFiles) -> None:
    truth = read_labels(next(iter(files.atlases.values())).labels.path).data
    facts_of("case", source, truth, rules_of(FuseSettings(rule=job.rule), {}, files.names))


def _files(job: Job, folder: Path) -> CaseFiles:
    atlases = {
        f"{number:02}": AtlasFiles(
            Artifact(folder / f"image-{number}.nii.gz", ""),
            Artifact(folder / f"labels-{job.structures}.nii.gz", ""),
            Artifact(folder / f"warp-{number}.h5", ""),
        )
        for number in range(job.atlases)
    }
    read_image(folder / "fixed.nii.gz")
    return CaseFiles(Artifact(folder / "fixed.nii.gz", ""), atlases)


class _Disk:
    """The most bytes that lie in a folder meanwhile, looked at twice a second."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder, self._end = folder, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Disk":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            sizes = [path.stat().st_size for path in self._folder.rglob("*.raw") if path.is_file()]
            self.most = max(self.most, sum(sizes))


if __name__ == "__main__":
    main()
