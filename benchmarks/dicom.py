"""A DICOM patient: T1 brought back to T2 by the affine engine (rigid) after known turns and shifts of its header.

Run from the project's root: python -m benchmarks.dicom
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.known import errors_mm, replaced, rigid
from benchmarks.measure import Stopwatch, import_ants, say, use_threads
from covoxel.io import read_dicom_series, write_image
from covoxel.preprocessing import preprocess
from covoxel.registration import register
from covoxel.spatial import Image, Transform

PATIENT = "PGBM-003"
ANTS_RIGID = "ANTs Rigid"
LIMIT_MM = 1.5


def recovered(method: str, fixed: Image, moving: Image) -> tuple[Transform, float]:
    """Rigid transform found by one method, and its seconds."""
    if method == ANTS_RIGID:
        return _with_ants(fixed, moving)
    with Stopwatch() as watch:
        (transform,) = register("affine", fixed, [moving], freedom="rigid", similarity=method)
    return transform, watch.seconds


def _with_ants(fixed: Image, moving: Image) -> tuple[Transform, float]:
    ants = import_ants(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("fixed.nii", "moving.nii")]
        for path, image in zip(paths, (fixed, moving), strict=True):
            write_image(path, image)
        images = [ants.image_read(str(path)) for path in paths]
        with Stopwatch() as watch:
            result = ants.registration(*images, type_of_transform="Rigid", outprefix=f"{folder}/ants_")
        return common.transform_of_ants(result["fwdtransforms"], fixed.grid), watch.seconds


def one(method: str, seed: int | None, fixed: Image, moving: Image, mask: NDArray[np.bool_]) -> dict[str, object]:
    """Row of one method after one perturbation; seed None leaves the header as it is."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4) if seed is None else rigid(moving.grid, rng, 20.0, 15.0)
    truth = Transform(fixed.grid, matrix)
    transform, seconds = recovered(method, fixed, replaced(moving, matrix))
    errors = errors_mm(transform, truth, mask)
    before = errors_mm(Transform.identity(fixed.grid), truth, mask)
    return {
        "similarity": method,
        "seed": "unmoved" if seed is None else str(seed),
        "before_mm": before.mean(),
        "error_mm": errors.mean(),
        "worst_voxel_mm": errors.max(),
        "met": bool(errors.mean() < LIMIT_MM),
        "seconds": seconds,
    }


def verdicts(rows: Sequence[dict[str, object]], methods: Sequence[str]) -> list[Bar]:
    """Mean and worst of each method over the perturbations."""
    bars = []
    for method in methods:
        errors = [
            float(str(row["error_mm"])) for row in rows if row["similarity"] == method and row["seed"] != "unmoved"
        ]
        if errors:
            bars.append(Bar(f"{method}: mean error over perturbations, mm", float(np.mean(errors)), LIMIT_MM, False))
            bars.append(Bar(f"{method}: worst perturbation, mm", max(errors), LIMIT_MM, False))
    return bars


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--similarities", nargs="+", default=["lncc", "nmi", "mind"])
    parser.add_argument("--perturbations", type=int, default=6, help="random axes and directions (default 6)")
    parser.add_argument("--fixed", default="T2reg", help="series folder of the fixed image (default T2reg)")
    parser.add_argument("--moving", default="T1post", help="series folder of the moving image (default T1post)")
    parser.add_argument("--no-ants", action="store_true", help="leave out ANTs Rigid, shown for comparison")
    parser.add_argument("--threads", type=int, default=2)
    options = common.arguments(parser, argv)
    use_threads(options.threads)
    torch.set_num_threads(options.threads)
    common.describe_run(seed=options.seed, processes=1, threads=options.threads)
    patient = common.data_folder("dicom") / PATIENT
    fixed, moving = (preprocess(read_dicom_series(patient / name)) for name in (options.fixed, options.moving))
    mask = common.head_mask(fixed)
    say(f"{options.moving} {moving.grid.shape} to {options.fixed} {fixed.grid.shape}, {fixed.grid.spacing_mm} mm")
    methods = [*options.similarities, *([] if options.no_ants else [ANTS_RIGID])]
    rows = []
    for method in methods:
        recovered(method, fixed, moving)  # loads what the first call loads, untimed
        for seed in (None, *range(options.seed, options.seed + options.perturbations)):
            rows.append(one(method, seed, fixed, moving, mask))
            say("  ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in rows[-1].values()))
    notes = (
        "The series are aligned with each other. The moving header is turned by 20 degrees about a random axis through",
        "  the middle of the image and shifted by 15 mm in a random direction. error_mm: mean distance of found from",
        "  true positions over the head mask of the fixed image. 'unmoved': nothing was perturbed; how far a method",
        "  strays from the given alignment by itself, which bounds what can be told from it.",
    )
    common.finish(rows, verdicts(rows, options.similarities), options.output, notes)


if __name__ == "__main__":
    main()
