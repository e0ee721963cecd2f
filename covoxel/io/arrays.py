"""Named arrays in one file (`.npz`): the same arrays give the same bytes, and nothing is unpickled."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covoxel.io.atomic import write_bytes


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of numbers, whole or not at all."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **dict(sorted(arrays.items())))
    write_bytes(Path(path), stream.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays of numbers.

    Raises
    ------
    ValueError
        If the file is missing or damaged, or holds something else than arrays of numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"{path} must be a file of arrays (.npz) that is whole: {error}") from error
