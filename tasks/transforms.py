"""Reading of transforms in tasks, one at a time: the HDF5 inside SimpleITK breaks when threads use it at once."""

import threading
from pathlib import Path

from covoxel.io.transforms import read_transform
from covoxel.spatial import Grid, Transform

_one_at_a_time = threading.Lock()


def load_transform(path: Path, grid: Grid) -> Transform:
    """Transform of a file onto a case on `grid`; errors as `covoxel.io.read_transform`."""
    with _one_at_a_time:
        return read_transform(path, grid)
