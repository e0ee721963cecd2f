"""Ways to register a pair, ours and others': each returns the moved label map, and what the registration took."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from benchmarks.common import remove_files
from benchmarks.measure import Stopwatch, import_ants, import_peer
from covoxel.io import read_image, write_image, write_labels
from covoxel.metrics import folding
from covoxel.registration import register
from covoxel.spatial import Grid, Image, Transform, resample

_LNCC = "-m NCC 2x2x2"


@dataclass(frozen=True)
class Moved:
    """A label map that was moved onto the fixed grid by its nearest voxel, `(*shape)`, and the cost of the way."""

    labels: Tensor
    watch: Stopwatch
    folds_percent: float = float("nan")


Method = Callable[[Image, Image, Image], Moved]
"""From the fixed image, the moving image and the moving label map."""


def with_engine(name: str, settings: dict[str, Any] | None = None) -> Method:
    """An engine of covoxel with its default settings, or with some others."""

    def run(fixed: Image, moving: Image, labels: Image) -> Moved:
        with Stopwatch() as watch:
            (transform,) = register(name, fixed, [moving], **(settings or {}))
        return Moved(nearest(labels, fixed.grid, transform), watch, folding(transform).percent)

    return run


def with_greedy(fixed: Image, moving: Image, labels: Image) -> Moved:
    """greedy: affine, then deformable, both by local correlation (Yushkevich et al. 2016)."""
    greedy = import_peer("picsl_greedy", "picsl-greedy").Greedy3D()
    with tempfile.TemporaryDirectory() as name:
        f, m, in_, out = (Path(name) / f"{each}.nii" for each in ("f", "m", "labels", "out"))
        write_image(f, fixed)
        write_image(m, moving)
        write_labels(in_, labels)
        pair = f"-V 0 -threads 1 -i {f} {m}"
        with Stopwatch() as watch:
            greedy.execute(f"{pair} -a -dof 12 {_LNCC} -ia-image-centers -n 100x50x10 -o aff", aff=None)
            greedy.execute(f"{pair} {_LNCC} -it aff -n 100x50x20 -o warp", warp=None)
        greedy.execute(f"-V 0 -threads 1 -rf {f} -ri NN -rm {in_} {out} -r warp aff")
        return Moved(_read_labels(out), watch)


def with_ants(fixed: Image, moving: Image, labels: Image) -> Moved:
    """ANTs SyN as `antspyx` calls it by default (Avants et al. 2008)."""
    ants = import_ants(0)
    with tempfile.TemporaryDirectory() as name:
        f, m, in_, out = (Path(name) / f"{each}.nii" for each in ("f", "m", "labels", "out"))
        write_image(f, fixed)
        write_image(m, moving)
        write_labels(in_, labels)
        target, image, label_map = (ants.image_read(str(each)) for each in (f, m, in_))
        with Stopwatch() as watch:
            found = ants.registration(target, image, type_of_transform="SyN")
        files = found["fwdtransforms"]
        ants.apply_transforms(target, label_map, files, interpolator="nearestNeighbor").to_file(str(out))
        remove_files([*files, *found["invtransforms"]])
        return Moved(_read_labels(out), watch)


def with_convexadam(fixed: Image, moving: Image, labels: Image) -> Moved:
    """ConvexAdam with MIND (Siebert et al. 2021), after the affine part of covoxel, as it has none."""
    adam = import_peer("convexAdam.convex_adam_MIND", "convexadam").convex_adam_pt
    with Stopwatch() as watch:
        (affine,) = register("affine", fixed, [moving])
        moved = resample(moving, fixed.grid, affine)
        shift = adam(fixed.data, moved.data, dtype=torch.float32, device=torch.device("cpu"))
    displaced = np.moveaxis(np.asarray(shift), -1, 0) + np.indices(fixed.grid.shape)
    onto_moving = nearest(labels, fixed.grid, affine).numpy()
    return Moved(torch.from_numpy(ndimage.map_coordinates(onto_moving, displaced, order=0)), watch)


PEERS: dict[str, Method] = {"greedy": with_greedy, "ants": with_ants, "convexadam": with_convexadam}


def nearest(labels: Image, onto: Grid, transform: Transform) -> Tensor:
    """Label of the nearest voxel, 0 outside, `(*onto.shape)`."""
    at = transform.moving_coordinates_vox(labels.grid)[0].numpy()
    return torch.from_numpy(ndimage.map_coordinates(labels.data.numpy(), at, order=0, mode="constant", cval=0))


def _read_labels(path: Path) -> Tensor:
    return read_image(path).data.round().long()
