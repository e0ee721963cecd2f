"""One registration of one pair in a process of its own, so that seconds and peak memory are that method's alone.

Run by benchmarks.brains: python -m benchmarks.pair METHOD FIXED MOVING FOLDER SEED
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Stopwatch, import_ants, peak_gib, thread_environment

ROOT = Path(__file__).resolve().parents[1]
ANTS = "ANTs "


@dataclass(frozen=True)
class Cost:
    """What one registration took: `seconds` from images in memory to transforms on disk and a moved image."""

    seconds: float
    registration_seconds: float
    cpu_seconds: float
    peak_gib: float


def measure(method: str, fixed: Path, moving: Path, folder: Path, *, threads: int, seed: int) -> Cost:
    """Register in a fresh process; the transform is left in `folder` (`transform.h5`, or ANTs' own files)."""
    command = [sys.executable, "-m", "benchmarks.pair", method, str(fixed), str(moving), str(folder), str(seed)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **thread_environment(threads)})
    return Cost(**json.loads((folder / "cost.json").read_text(encoding="utf-8")))


def with_covoxel(method: str, fixed: Path, moving: Path, folder: Path) -> Cost:
    """Register, write the transform, move the image."""
    from covoxel.io import read_image, write_transform
    from covoxel.registration import register
    from covoxel.spatial import resample

    target, image = read_image(fixed), read_image(moving)
    with Stopwatch() as whole:
        with Stopwatch() as registration:
            (transform,) = register(method, target, [image])
        write_transform(folder / "transform.h5", transform)
        resample(image, target.grid, transform)
    return Cost(whole.seconds, registration.seconds, whole.cpu_seconds, peak_gib())


def with_ants(method: str, fixed: Path, moving: Path, folder: Path, seed: int) -> Cost:
    """Do the same with ANTs, whose one call writes the transforms and moves the image by itself."""
    ants = import_ants(seed)
    target, image = ants.image_read(str(fixed)), ants.image_read(str(moving))
    with Stopwatch() as whole:
        ants.registration(target, image, type_of_transform=method.removeprefix(ANTS), outprefix=str(folder / "ants_"))
    return Cost(whole.seconds, whole.seconds, whole.cpu_seconds, peak_gib())


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="an engine of covoxel, or 'ANTs SyN' and the like")
    parser.add_argument("fixed", type=Path, help="image, intensities 0 to 1")
    parser.add_argument("moving", type=Path, help="image, intensities 0 to 1")
    parser.add_argument("folder", type=Path, help="where the transform and cost.json are left")
    parser.add_argument("seed", type=int, help="of ANTs; covoxel draws nothing")
    options = parser.parse_args(argv)
    paths = (options.fixed, options.moving, options.folder)
    if options.method.startswith(ANTS):
        cost = with_ants(options.method, *paths, options.seed)
    else:
        cost = with_covoxel(options.method, *paths)
    (options.folder / "cost.json").write_text(json.dumps(vars(cost)), encoding="utf-8")


if __name__ == "__main__":
    main()
