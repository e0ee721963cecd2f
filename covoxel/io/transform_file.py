"""The ITK transform file itself: opened by ITK only after it was seen to hold what it announces."""

import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import SimpleITK
from scipy.io import whosmat
from scipy.io.matlab import MatReadError

from covoxel.memory_errors import is_out_of_memory

sitk: Any = SimpleITK  # its own annotations are too few for strict checking

_MAX_GZIP_RATIO = 1040  # deflate cannot shrink further
_one_at_a_time = threading.Lock()  # the HDF5 inside ITK breaks when threads use it at once
_DAMAGE = (RuntimeError, OSError, KeyError, IndexError, TypeError, ValueError, OverflowError, MatReadError)


def read_itk(path: Path) -> Any:
    """Read the one transform (maybe a composite) of an ITK file, as SimpleITK's object; threads may do so at once.

    Raises
    ------
    ValueError
        If the file is missing or damaged, or holds several transforms side by side: SimpleITK would read the first of
        them and say nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; a transform must be a file")
    try:
        kinds = _kinds(path)
        with _one_at_a_time:
            itk = sitk.ReadTransform(str(path))
    except _DAMAGE as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).strip().splitlines()[-1:]).strip()
        raise ValueError(f"{path} must be an intact ITK transform file: {reason}") from error
    if len(kinds) > 1 and not kinds[0].startswith("CompositeTransform"):
        raise ValueError(f"{path} holds {len(kinds)} transforms side by side; several must be one CompositeTransform")
    return itk


def _kinds(path: Path) -> list[str]:
    """Names of the transforms in a file, in their order."""
    if path.suffix.lower() in {".h5", ".hdf", ".hdf5"}:
        return _kinds_in_hdf5(path)
    if path.suffix.lower() == ".mat":
        return _kinds_in_matlab(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Transform:")]


def _kinds_in_hdf5(path: Path) -> list[str]:
    kinds = []
    with h5py.File(path, "r") as h5:
        group = h5["TransformGroup"]
        for name in sorted(group, key=int):
            kinds.append(str(group[name]["TransformType"].asstr()[0]))
            if "TransformParameters" in group[name]:
                _check_size(kinds[-1], group[name], path.stat().st_size)
    return kinds


def _check_size(kind: str, stage: Any, bytes_on_disk: int) -> None:
    count = int(stage["TransformParameters"].size)
    if count > bytes_on_disk * _MAX_GZIP_RATIO:
        raise ValueError(f"{count} parameters cannot be in {bytes_on_disk} bytes")
    if kind.startswith("DisplacementFieldTransform"):
        n = int(kind[-1])
        # ITK before 5 misspelt the name.
        fixed = stage["TransformFixedParameters" if "TransformFixedParameters" in stage else "TranformFixedParameters"]
        announced = float(np.prod(fixed[:n])) * n
        if announced != count:
            raise ValueError(f"a field of {announced:g} numbers is announced and {count} are there")


def _kinds_in_matlab(path: Path) -> list[str]:
    kinds = []
    for name, shape, _ in whosmat(str(path)):
        if any(side < 0 for side in shape) or float(np.prod([float(side) for side in shape])) > path.stat().st_size:
            raise ValueError(f"a matrix of {shape} cannot be in {path.stat().st_size} bytes")
        kinds.append(str(name))
    return [kind for kind in kinds if kind != "fixed"]
