"""Scratch: arrays of a computation that are read part by part, in memory while they are small, else on the disk."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IN_MEMORY = 2**25
"""Bytes that one scratch keeps in memory; what comes after lies on the disk."""

Part = tuple[slice | int, ...]
"""Where in an array."""


class Scratch:
    """A folder of raw arrays that is removed when the computation ends, whether it succeeds or fails.

    Files are mapped for the time of one access only, so that their pages do not count as memory of the process.

    Parameters
    ----------
    folder
        Where to make the folder, made if need be; None: where the system keeps temporary files.
    in_memory
        Bytes that are kept in memory before anything is written.
    """

    def __init__(self, folder: Path | None = None, *, in_memory: int = IN_MEMORY) -> None:
        self._parent = folder
        self._room = in_memory
        self._folder: Path | None = None
        self._count = 0
        self.bytes_on_disk = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def array(self, shape: tuple[int, ...], dtype: torch.dtype) -> "ScratchArray":
        """A new array of zeros."""
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if size <= self._room:
            self._room -= size
            return ScratchArray(shape, kind, np.zeros(shape, kind))
        self._count += 1
        self.bytes_on_disk += size
        path = self._made() / f"{self._count}.raw"
        with path.open("wb") as file:
            file.truncate(size)
        return ScratchArray(shape, kind, path)

    def close(self) -> None:
        """Remove the folder; what is in memory goes with its arrays."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _made(self) -> Path:
        if self._folder is None:
            if self._parent is not None:
                self._parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=self._parent))
        return self._folder


class ScratchArray:
    """An array of a `Scratch`.

    Parameters
    ----------
    shape, kind
        Of the array.
    place
        The array itself, or the file it lies in.
    """

    def __init__(self, shape: tuple[int, ...], kind: "np.dtype[Any]", place: "NDArray[Any] | Path") -> None:
        self.shape = shape
        self._kind = kind
        self._place = place

    def write(self, part: Part, values: Tensor) -> None:
        """Put `values` where `part` says."""
        array = self._opened("r+")
        array[part] = values.detach().cpu().numpy()

    def read(self, part: Part) -> Tensor:
        """A copy of a part."""
        return torch.from_numpy(np.array(self._opened("r")[part], order="C"))

    def at(self, voxels: Tensor) -> Tensor:
        """Copies of the numbers at indices `(m, n)`, `(m,)`."""
        where = tuple(own.cpu().numpy() for own in voxels.unbind(1))
        return torch.from_numpy(np.array(self._opened("r")[where]))

    def _opened(self, mode: Any) -> "NDArray[Any]":
        if isinstance(self._place, Path):
            return np.memmap(self._place, self._kind, mode, shape=self.shape)
        return self._place
