"""A network within the memory there is: fewer pairs at a time, then overlapping tiles, then the CPU."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

from covoxel.registration.model import PairModel

log = logging.getLogger(__name__)

_WORKING_BYTES = {"cpu": 2**25, "cuda": 2**34}
"""What a batch of pairs works on: a GPU wants much at once, a CPU what its caches nearly hold, or is slower a pair."""

_SMALLEST_TILE = 32
_OVERLAP = 4
"""One part in so many of a tile's side is shared with the next one."""


class BoundedNetwork:
    """Calls a network on as many pairs as memory holds, and goes back to less each time memory runs out.

    Parameters
    ----------
    model
        The network.
    shape
        Sides of the images.
    devices
        Where to run, and where else once that is too small for the smallest tile.
    """

    def __init__(self, model: PairModel, shape: Sequence[int], devices: Sequence[torch.device]) -> None:
        self.model, self.shape, self.devices = model, tuple(shape), list(devices)
        self.tile = self.shape
        working = _WORKING_BYTES.get(devices[0].type, _WORKING_BYTES["cpu"])
        self.pairs = max(1, working // (model.bytes_per_voxel * torch.Size(shape).numel()))
        self._said: set[str] = set()

    def __call__(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacements in voxels, `(batch, n, *shape)`, of `moving` `(batch, 1, *shape)` and one `fixed` image.

        Raises
        ------
        torch.OutOfMemoryError
            If the CPU has not enough memory for the smallest tile of one pair.
        """
        found: list[Tensor] = []
        start = 0
        while start < len(moving):
            part = moving[start : start + self.pairs]
            displacement = self._attempt(fixed, part)
            if displacement is None:
                self._retreat(len(part))
            else:
                found.append(displacement)
                start += len(part)
        return torch.cat(found)

    def _attempt(self, fixed: Tensor, moving: Tensor) -> Tensor | None:
        """None if memory ran out; what was allocated is free when this returns."""
        try:
            both = fixed.expand_as(moving).to(self.devices[0]), moving.to(self.devices[0])
            found = self.model.displacement(*both) if self.tile == self.shape else self._in_tiles(*both)
            return found.to(moving.device, torch.float32)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or self._is_last_resort():
                raise
            return None

    def _retreat(self, pairs: int) -> None:
        if self.devices[0].type == "cuda":
            torch.cuda.empty_cache()
        if pairs > 1:
            self.pairs = pairs // 2
            self._say(f"not enough memory for {pairs} pairs of this size at once: fewer are taken")
        elif max(self.tile) > self._smallest_tile:
            axis = self.tile.index(max(self.tile))
            side = max(self._smallest_tile, -(-self.tile[axis] // 2))
            self.tile = (*self.tile[:axis], side, *self.tile[axis + 1 :])
            self._say("not enough memory for a pair of this size: it is taken in overlapping tiles")
        else:
            self.devices, self.tile = self.devices[1:], self.shape
            self._say("not enough memory on the device for a tile of a pair: the CPU takes over")

    def _say(self, remark: str) -> None:
        kind = remark.rpartition(":")[2]
        if kind not in self._said:
            log.warning("%s", remark)
        self._said.add(kind)

    @property
    def _smallest_tile(self) -> int:
        return max(_SMALLEST_TILE, self.model.smallest_side)

    def _is_last_resort(self) -> bool:
        return len(self.devices) == 1 and self.pairs == 1 and max(self.tile) <= self._smallest_tile

    def _in_tiles(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement of overlapping tiles, blended where they overlap; each tile is registered by itself."""
        total, weights = fixed.new_zeros(()), fixed.new_zeros(self.shape)
        for tile in tiles(self.shape, self.tile):
            window = (slice(None), slice(None), *tile.window)
            found = self.model.displacement(fixed[window], moving[window]).float()
            if not total.ndim:
                total = found.new_zeros(*found.shape[:2], *self.shape)
            weight = tile.weight(found)
            total[window] += found * weight
            weights[tile.window] += weight
        return total / weights


@dataclass(frozen=True)
class Tile:
    """A part of an image: along each axis its first voxel and its number of voxels."""

    starts: tuple[int, ...]
    sides: tuple[int, ...]

    @property
    def window(self) -> tuple[slice, ...]:
        """Where it lies in the image."""
        return tuple(slice(start, start + side) for start, side in zip(self.starts, self.sides, strict=True))

    def weight(self, like: Tensor) -> Tensor:
        """Weight of each voxel, `sides`: falls to the tile's border over the overlap."""
        weight = like.new_ones(())
        for side in self.sides:
            index = torch.arange(side, dtype=like.dtype, device=like.device)
            ramp = torch.minimum(index + 1, side - index).clamp(max=max(1, side // _OVERLAP))
            weight = weight[..., None] * ramp
        return weight


def tiles(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Tile]:
    """Tiles of `sides` that cover an image of `shape`, each sharing at least a quarter of its sides with the next."""
    for starts in product(*(_starts(whole, side) for whole, side in zip(shape, sides, strict=True))):
        yield Tile(starts, tuple(sides))


def _starts(whole: int, side: int) -> list[int]:
    if side >= whole:
        return [0]
    count = 1 + -(-(whole - side) // max(1, side - side // _OVERLAP))
    starts = [round(i * (whole - side) / (count - 1)) for i in range(count)]
    assert all(b - a <= side for a, b in pairwise(starts))
    return starts


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
