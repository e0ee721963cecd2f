"""A template of the league's training images, built once, and the atlases brought onto a case through it.

Run by benchmarks.league: python -m benchmarks.league_template JOB.json FOUND.json
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import Cohort, code_digest
from benchmarks.league_process import run_module
from benchmarks.measure import Stopwatch, say
from covoxel.atlas import FolderOfPlacements, Placement, TemplateSettings, build_template, through
from covoxel.io import read_image, sha256_file, sha256_json, write_image, write_json
from covoxel.registration import register
from covoxel.spatial import Image, Transform

ITERATIONS = {"svf": (100, 80, 20, 4), "learned+svf": (20, 4)}
"""Steps a level of the one registration of a case; those of the engines, but fewer on the finest level."""

_CODE = ("atlas", "registration", "spatial", "losses", "preprocessing")


@dataclass(frozen=True)
class TemplateJob:
    """The images that make the template, atlases first; no label is read."""

    source: Path
    atlases: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def key(self) -> str:
        """Ten letters that change with the images and the code."""
        images = [sha256_file(self.source / "images" / f"{case}.nii.gz") for case in (*self.atlases, *self.others)]
        own = hashlib.sha256((ROOT / "benchmarks" / "league_template.py").read_bytes()).hexdigest()
        return sha256_json([self.atlases, self.others, images, code_digest(_CODE), own])[:10]


@dataclass(frozen=True)
class LeagueTemplate:
    """Folder of a template that was built, and the minutes of one process that it took."""

    folder: Path
    minutes: float


def template_of(job: TemplateJob, work: Path) -> LeagueTemplate:
    """The template, built in a process of its own if it is not there."""
    folder = work / f"template-{job.key}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "template.json"
    if not done.is_file():
        say(f"template of {len(job.atlases) + len(job.others)} images: being built")
        run_module("benchmarks.league_template", asdict(job), done, threads=1)
    return LeagueTemplate(folder, float(json.loads(done.read_text(encoding="utf-8"))["minutes"]))


def bring_through(
    folder: Path, engine: str, fixed: Image, atlases: int, options: dict[str, Any], device: str
) -> list[Transform]:
    """Transforms of the first `atlases` atlases: one registration of the case, and a composition for each."""
    image, placements = _loaded(folder)
    how = {"alignment": "centre", "iterations": ITERATIONS[engine]} | options
    (inner,) = register(engine, fixed, [image], device=device, **how)
    return [through(placement, inner) for placement in placements[:atlases]]


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> tuple[Image, list[Transform]]:
    """The template, and the transform of each atlas, read once a process."""
    kept = _placements(folder)
    names = json.loads((folder / "template.json").read_text(encoding="utf-8"))["atlases"]
    return read_image(folder / "template.nii.gz"), [kept[name].transform() for name in names]


def _placements(folder: Path) -> FolderOfPlacements:
    return FolderOfPlacements(folder / "placements")


def build(job: TemplateJob, folder: Path) -> dict[str, Any]:
    """Build it, leave image and placements of the atlases in `folder`."""
    torch.set_num_threads(1)
    cohort = Cohort(job.source, Path(), job.atlases, job.others)
    with Stopwatch() as watch:
        made = build_template({case: cohort.image(case) for case in (*job.atlases, *job.others)}, TemplateSettings())
    missing = [atlas for atlas in job.atlases if atlas in made.left_out]
    if missing:
        raise SystemExit(f"atlas {missing[0]} did not come onto the template: {made.left_out[missing[0]]}")
    kept: dict[str, Placement] = {atlas: made.placements[atlas] for atlas in job.atlases}
    _placements(folder).update(kept)
    write_image(folder / "template.nii.gz", made.image)
    return {"minutes": watch.seconds / 60, "images": len(made.placements), "atlases": list(job.atlases)}


def main(argv: Sequence[str]) -> None:
    """Command line."""
    asked, found = (Path(argument) for argument in argv)
    data = json.loads(asked.read_text(encoding="utf-8"))
    job = TemplateJob(Path(data["source"]), tuple(data["atlases"]), tuple(data["others"]))
    write_json(found, build(job, found.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
