"""Seconds and peak memory of one network on a pair of 160×192×224 voxels, two threads, in a process of its own.

Run by benchmarks.league: python -m benchmarks.league_brain JOB.json FOUND.json
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common import ROOT
from benchmarks.league_process import run_module
from benchmarks.measure import Stopwatch, peak_gib
from covoxel.io import read_image, write_json
from covoxel.preprocessing import preprocess
from covoxel.registration import register
from covoxel.spatial import Grid, Image
from covoxel.spatial.smoothing import gaussian
from tasks.models import load_model

SHAPE = (160, 192, 224)
THREADS = 2


def measure_brain(model: Path, folder: Path) -> dict[str, float]:
    """Columns `brain_s` and `brain_gib` of the network in `model`."""
    found = run_module("benchmarks.league_brain", {"model": model}, folder / "brain.json", threads=THREADS)
    return {"brain_s": found["seconds"], "brain_gib": found["peak_gib"]}


def pair() -> tuple[Image, Image]:
    """Two brains, the fixed one of `SHAPE`; smooth noise where there are none: what is shown costs nothing."""
    folder = Path(os.environ.get("COVOXEL_DATA", ROOT / "../shared/data")).resolve() / "brain"
    files = [folder / f"{name}_T1w.nii.gz" for name in ("oasis", "mni152")]
    if all(file.is_file() for file in files):
        fixed, moving = (preprocess(read_image(file)) for file in files)
        if fixed.grid.shape == SHAPE:
            return fixed, moving
    noise = gaussian(torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0)), [3.0] * 3)[:, 0]
    smooth = (noise - noise.min()) / (noise.max() - noise.min())
    grid = Grid.from_spacing(SHAPE)
    return Image(smooth[0], grid), Image(smooth[1], grid)


def main(argv: Sequence[str]) -> None:
    """Command line."""
    job, found = (Path(argument) for argument in argv)
    torch.set_num_threads(THREADS)
    model = load_model(Path(json.loads(job.read_text(encoding="utf-8"))["model"]), "cpu")
    fixed, moving = pair()
    with Stopwatch() as watch:
        register("learned", fixed, [moving], model=model)
    write_json(found, {"seconds": watch.seconds, "peak_gib": peak_gib()})


if __name__ == "__main__":
    main(sys.argv[1:])
