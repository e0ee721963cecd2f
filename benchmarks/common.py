"""What the benchmarks share: where the data lie, the machine they ran on, tables, verdicts, and ANTs' transforms."""

import argparse
import logging
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

import covoxel
from benchmarks.measure import say
from covoxel.io import read_affine, read_displacement, write_table
from covoxel.spatial import Grid, Image, Transform

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "antspyx")


def data_folder(name: str) -> Path:
    """Folder of one data set in `COVOXEL_DATA` (default `../shared/data` from the project's root)."""
    folder = Path(os.environ.get("COVOXEL_DATA", ROOT / "../shared/data")).resolve() / name
    if not folder.is_dir():
        raise SystemExit(f"{folder} does not exist; COVOXEL_DATA must name the folder that holds {name}/")
    return folder


def arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of a benchmark, with `--output` and `--seed` as all of them have."""
    parser.add_argument("--output", type=Path, help="TSV file for the table")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random (default 0)")
    logging.basicConfig(level=logging.WARNING)
    return parser.parse_args(argv)


def describe_run(*, seed: int, processes: int, threads: int) -> None:
    """Say what the figures depend on: machine, load, threads, versions, seed."""
    say(f"machine   {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    say(f"load      {' '.join(f'{load:.1f}' for load in os.getloadavg())} (1, 5, 15 minutes, before the run)")
    waiting = os.environ.get("OMP_WAIT_POLICY", "unset")
    say(f"threads   {processes} processes of {threads} each, for every method; OMP_WAIT_POLICY {waiting}")
    versions = [f"python {platform.python_version()}", f"covoxel {covoxel.__version__}"]
    say("versions  " + ", ".join(versions + [f"{name} {_version(name)}" for name in _PACKAGES]))
    say(f"seed      {seed}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def transform_of_ants(files: Sequence[str | Path], grid: Grid) -> Transform:
    """Transform on the fixed `grid` of ANTs' list `fwdtransforms`: a warp and an affine, or an affine alone."""
    matrices = [read_affine(Path(file)) for file in files if str(file).endswith(".mat")]
    warps = [read_displacement(Path(file)) for file in files if not str(file).endswith(".mat")]
    if len(matrices) != 1 or len(warps) > 1 or (warps and str(files[0]).endswith(".mat")):
        raise ValueError(f"files must be one affine, or one warp and then one affine, got {list(files)}")
    displacement: Tensor | None = None
    if warps:
        displacement, own = warps[0]
        if not own.isclose(grid):
            raise ValueError(f"the warp must lie on the fixed grid {grid}, got {own}")
    return Transform(grid, matrices[0], displacement)


def remove_files(files: Iterable[str]) -> None:
    """Remove the temporary files of ANTs that are there."""
    for file in set(files):
        Path(file).unlink(missing_ok=True)


def head_mask(image: Image, threshold: float = 0.1) -> NDArray[np.bool_]:
    """Largest bright body of an image of intensities 0 to 1, holes filled, `(*shape)`."""
    data = ndimage.gaussian_filter(image.data.numpy(), 1.0 / image.grid.spacing_mm)
    bodies, count = ndimage.label(data > threshold)
    if not count:
        raise ValueError(f"image must be brighter than {threshold} somewhere, got at most {data.max():.3g}")
    largest = bodies == 1 + np.argmax(np.bincount(bodies.ravel())[1:])
    return np.asarray(ndimage.binary_fill_holes(largest))


@dataclass(frozen=True)
class Bar:
    """One figure held against what was promised."""

    text: str
    value: float
    limit: float
    at_least: bool

    def __str__(self) -> str:
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        sign = ">=" if self.at_least else "<="
        return f"{'PASS' if met else 'FAIL'}  {self.text}: {self.value:.4g} (bar {sign} {self.limit:.4g})"


def finish(rows: Iterable[dict[str, object]], bars: Iterable[Bar], output: Path | None, notes: Iterable[str]) -> None:
    """Print the table, what its columns mean and the verdicts, and write the table if a file was named."""
    table = pd.DataFrame(list(rows))
    say()
    say(table.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="n/a"))
    say()
    for note in notes:
        say(note)
    say()
    for bar in bars:
        say(str(bar))
    if output is not None:
        write_table(output, table)
        say(f"table written to {output}")
