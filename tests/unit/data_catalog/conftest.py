"""Small images with noise in them, written where a test wants them."""

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.io import write_image, write_labels
from covoxel.spatial import Grid, Image

SHAPE = (7, 6, 5)

Scan = Callable[..., Path]


@pytest.fixture
def scan() -> Scan:
    """Write an image of noise: `scan(path, shape=…, spacing_mm=…, seed=…)`."""

    def write(path: Path, shape: Sequence[int] = SHAPE, spacing_mm: float = 1.0, seed: int | None = None) -> Path:
        rng = np.random.default_rng(list(path.name.encode()) if seed is None else seed)
        data = torch.from_numpy(rng.normal(size=tuple(shape)).astype(np.float32))
        write_image(path, Image(data, Grid.from_spacing(tuple(shape), spacing_mm)))
        return path

    return write


@pytest.fixture
def label() -> Scan:
    """Write a label map whose first voxels have the given values: `label(path, values=(1, 2), shift_mm=0)`."""

    def write(path: Path, values: Sequence[int] = (1, 2), shape: Sequence[int] = SHAPE, shift_mm: float = 0.0) -> Path:
        data = torch.zeros(tuple(shape), dtype=torch.int64)
        data.view(-1)[: len(values)] = torch.tensor(values)
        grid = Grid.from_spacing(tuple(shape))
        matrix = grid.ras_from_voxel.copy()
        matrix[0, -1] += shift_mm
        write_labels(path, Image(data, Grid(grid.shape, matrix)))
        return path

    return write


@pytest.fixture
def cohort_folder(tmp_path: Path, scan: Scan, label: Scan) -> Path:
    """Folder cohort of the cases a, b, c, d, all labelled with 1 and 2; d is a test case."""
    root = tmp_path / "study"
    for name in "abcd":
        scan(root / "images" / f"{name}.nii.gz")
        label(root / "labels" / f"{name}.nii.gz")
    (root / "split.json").write_text('{"atlases": ["a"], "unlabelled": ["b", "c"], "test": ["d"]}')
    return root


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Close a folder to everybody: to root too, for whom the refusal of the system is played."""
    closed: set[str] = set()
    real = {name: getattr(os, name) for name in ("scandir", "listdir")}

    def deny(name: str, path: object) -> object:
        if not isinstance(path, int) and os.fspath(path) in closed:  # type: ignore[call-overload]
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))  # type: ignore[call-overload]
        return real[name](path)

    def refuse(folder: Path) -> None:
        closed.add(str(folder))
        for name in real:
            monkeypatch.setattr(os, name, partial(deny, name))

    return refuse
