"""Memory and time of fusing a whole brain against the numbers of structures and atlases.

Run from the project's root: python -m benchmarks.fusion_memory
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.fusion_memory_job import Job
from benchmarks.league_process import run_module
from benchmarks.measure import say
from covoxel.io import read_image, read_labels, write_image, write_labels, write_transform
from covoxel.preprocessing import canonical, preprocess
from covoxel.spatial import Grid, Image, Transform, resample, resample_labels
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.smoothing import refine

SIZES = ((138, 1), (138, 5), (138, 15), (36, 15), (2, 15), (36, 5), (2, 5), (36, 1), (2, 1))
"""Structures, background counted, and atlases."""
MOST_GIB, MOST_SPREAD = 4.0, 1.2
_CELLS, _SPREAD_VOX = 9, 2.0  # nodes along each side of the random warps, and their standard deviation
NOTES = (
    "One brain of the set oasis35 as the image; as the atlases the same brain through smooth random warps, standard",
    f"  deviation {_SPREAD_VOX:g} voxels, noise added; fewer structures are merged ones. One process, one thread.",
    "peak: largest resident memory of the process that fuses the case as `few-shot` does, from files to the label map.",
    "bytes: peak less what the process holds before it begins, a voxel. scratch: largest on the disk meanwhile.",
    "undecided: share of the voxels at which the atlases differ. gather … select: seconds of the processor.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", help="structures x atlases, such as 138x15,2x1 (default: nine of them)")
    parser.add_argument("--zoom", type=float, default=1.0, help="voxel size in mm (default 1)")
    parser.add_argument("--rule", default="select", help="select, or a fusion rule (default select)")
    parser.add_argument("--calibrate", action="store_true", help="measure calibration on one atlas instead")
    parser.add_argument("--work", type=Path, default=Path("output/fusion-memory"), help="folder of the files")
    options = common.arguments(parser, argv)
    common.describe_run(seed=options.seed, processes=1, threads=1)
    sizes = _sizes(options.sizes)
    rows = [_measured(options, structures, atlases) for structures, atlases in sizes]
    peaks = [float(str(row["peak GiB"])) for row in rows]
    bars = [Bar("largest peak, GiB", max(peaks), MOST_GIB, at_least=False)]
    if len(rows) > 1:
        bars.append(Bar("largest peak over smallest", max(peaks) / min(peaks), MOST_SPREAD, at_least=False))
    common.finish(rows, bars, options.output, NOTES)


def _sizes(text: str | None) -> list[tuple[int, int]]:
    if text is None:
        return list(SIZES)
    pairs = [size.partition("x") for size in text.split(",")]
    return [(int(structures), int(atlases)) for structures, _, atlases in pairs]


def _measured(options: argparse.Namespace, structures: int, atlases: int) -> dict[str, object]:
    folder: Path = options.work / f"zoom-{options.zoom:g}"
    _prepare(folder, options.zoom, options.seed, structures, atlases)
    job = Job(str(folder), structures, atlases, options.rule, options.calibrate)
    name = f"{structures}x{atlases}-{options.rule}{'-calibrate' if options.calibrate else ''}"
    found = run_module("benchmarks.fusion_memory_job", asdict(job), folder / f"{name}.json", threads=1)
    row = {"structures": structures, "atlases": atlases, **found}
    say(json.dumps(row))
    return row


def _prepare(folder: Path, zoom: float, seed: int, structures: int, atlases: int) -> None:
    """Write the files of a cohort: the image, label maps and transforms; what is there stays."""
    source = common.data_folder("oasis35")
    case = json.loads((source / "split.json").read_text(encoding="utf-8"))["atlases"][0]
    fixed, merged = folder / "fixed.nii.gz", folder / f"labels-{structures}.nii.gz"
    if not fixed.is_file():
        image = preprocess(read_image(source / "images" / f"{case}.nii.gz"))
        write_image(fixed, image if zoom == 1 else resample(image, image.grid.with_spacing(zoom)))
    image = read_image(fixed)
    if not merged.is_file():
        write_labels(merged, _merged(canonical(read_labels(source / "labels" / f"{case}.nii.gz")), structures, image))
    for number in range(atlases):
        generator = torch.Generator().manual_seed(seed * 1000 + number)
        if not (folder / f"warp-{number}.h5").is_file():
            write_transform(folder / f"warp-{number}.h5", _warp(image.grid, generator))
            noise = 0.05 * torch.randn(image.grid.shape, generator=generator)
            write_image(folder / f"image-{number}.nii.gz", Image(image.data + noise, image.grid))


def _merged(labels: Image, structures: int, onto: Image) -> Image:
    """The label map with its structures merged to a number of labels, background counted."""
    values = torch.unique(labels.data)
    place = torch.searchsorted(values, labels.data.contiguous())
    few = torch.where(place > 0, 1 + (place - 1) * (structures - 1) // (len(values) - 1), 0)
    merged = Image(few if structures < len(values) else labels.data, labels.grid)
    return merged if merged.grid.isclose(onto.grid) else resample_labels(merged, onto.grid)


def _warp(grid: Grid, generator: torch.Generator) -> Transform:
    nodes = _SPREAD_VOX * 1.5 * torch.randn(1, grid.ndim, *[_CELLS] * grid.ndim, generator=generator)
    bend = refine(nodes, [side / _CELLS for side in grid.shape], grid.shape)
    return Transform(grid, torch.eye(grid.ndim + 1).double().numpy(), displacement_mm_from_vox(bend, grid)[0])


if __name__ == "__main__":
    main()
