"""Placements on disk, so that memory does not grow with the number of cases, and work goes on where it was."""

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import numpy as np
import torch

from covoxel.atlas.placement import Placement
from covoxel.io.arrays import read_arrays, write_arrays
from covoxel.spatial import Grid


def write_placement(path: Path, placement: Placement) -> None:
    """Write a placement (`.npz`), whole or not at all; the same one gives the same bytes."""
    arrays = {
        "shape": np.asarray(placement.grid.shape, dtype=np.int64),
        "ras_from_voxel": placement.grid.ras_from_voxel,
        "moving_from_template": placement.moving_from_template,
        "similarity": np.asarray(placement.similarity, dtype=np.float64),
    }
    if placement.velocity_vox is not None:
        arrays["velocity_vox"] = placement.velocity_vox.detach().float().cpu().numpy()
        arrays["cells"] = np.asarray(placement.cells, dtype=np.int64)
    write_arrays(path, arrays)


def read_placement(path: Path) -> Placement:
    """Read a placement.

    Raises
    ------
    ValueError
        If the file is missing, damaged or something else.
    """
    arrays = read_arrays(path)
    try:
        velocity = arrays.get("velocity_vox")
        return Placement(
            Grid(tuple(arrays["shape"].tolist()), arrays["ras_from_voxel"]),
            arrays["moving_from_template"],
            None if velocity is None else torch.from_numpy(velocity),
            () if velocity is None else tuple(arrays["cells"].tolist()),
            float(arrays["similarity"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold a placement on a template: {error}") from error


class FolderOfPlacements(MutableMapping[str, Placement]):
    """Placements by id in a folder, read each time they are asked for.

    Parameters
    ----------
    folder
        Where they lie, `ID.npz`; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def __getitem__(self, name: str) -> Placement:
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            raise KeyError(name)
        return read_placement(path)

    def __setitem__(self, name: str, placement: Placement) -> None:
        write_placement(self.folder / f"{name}.npz", placement)

    def __delitem__(self, name: str) -> None:
        (self.folder / f"{name}.npz").unlink()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self.folder.glob("[!.]*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)
