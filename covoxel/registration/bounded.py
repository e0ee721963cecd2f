"""A network within the memory there is: fewer pairs at a time, then overlapping tiles, then the CPU."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Protocol

import torch
from torch import Tensor

from covoxel.memory_errors import is_out_of_memory

log = logging.getLogger(__name__)

_WORKING_BYTES = {"cpu": 2**25, "cuda": 2**34}
"""What a batch of pairs works on: a GPU wants much at once, a CPU what its caches nearly hold, or is slower a pair."""

_SMALLEST_TILE = 32
_OVERLAP = 4
"""One part in so many of a tile's side is shared with the next one."""


class Needs(Protocol):
    """What a model says of its network; see `PairModel`."""

    @property
    def smallest_side(self) -> int:
        """Smallest side, voxels, of an image it takes."""
        ...

    @property
    def bytes_per_voxel(self) -> int:
        """Working memory for a voxel of what it takes, about."""
        ...


class BoundedNetwork:
    """Calls a network on as many pairs as memory holds, and goes back to less each time memory runs out.

    Parameters
    ----------
    network
        From tensors `(batch, channel, *shape)` to one such tensor.
    needs
        The model it is of.
    shape
        Sides of the images.
    devices
        Where to run, and where else once that is too small for the smallest tile.
    what
        What a batch is made of, in the words of the log.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        needs: Needs,
        shape: Sequence[int],
        devices: Sequence[torch.device],
        what: str = "pair",
    ) -> None:
        self.network, self.needs, self.what = network, needs, what
        self.shape, self.devices = tuple(shape), list(devices)
        self.tile = self.shape
        working = _WORKING_BYTES.get(devices[0].type, _WORKING_BYTES["cpu"])
        self.pairs = max(1, working // (needs.bytes_per_voxel * torch.Size(shape).numel()))
        self._said: set[str] = set()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the network says, `(batch, channel, *shape)` float32, of `inputs`, each of the batch or one for all.

        Raises
        ------
        torch.OutOfMemoryError
            If the CPU has not enough memory for the smallest tile of one pair.
        """
        found: list[Tensor] = []
        count, start = max(len(each) for each in inputs), 0
        while start < count:
            rows = slice(start, min(count, start + self.pairs))
            said = self._attempt([each[rows] if len(each) == count else each for each in inputs])
            if said is None:
                self._retreat(rows.stop - start)
            else:
                found.append(said)
                start = rows.stop
        return found[0] if len(found) == 1 else torch.cat(found)

    def _attempt(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """None if memory ran out; what was allocated is free when this returns."""
        try:
            count = max(len(each) for each in inputs)
            parts = [each.expand(count, *each.shape[1:]).to(self.devices[0]) for each in inputs]
            found = self.network(*parts) if self.tile == self.shape else self._in_tiles(*parts)
            return found.to(inputs[0].device, torch.float32)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self._is_last_resort():
                raise
            return None

    def _retreat(self, pairs: int) -> None:
        if self.devices[0].type == "cuda":
            torch.cuda.empty_cache()
        if pairs > 1:
            self.pairs = pairs // 2
            self._say(f"not enough memory for {pairs} {self.what}s of this size at once: fewer are taken")
        elif max(self.tile) > self._smallest_tile:
            axis = self.tile.index(max(self.tile))
            side = max(self._smallest_tile, -(-self.tile[axis] // 2))
            self.tile = (*self.tile[:axis], side, *self.tile[axis + 1 :])
            self._say(f"not enough memory for a {self.what} of this size: it is taken in overlapping tiles")
        else:
            self.devices, self.tile = self.devices[1:], self.shape
            self._say(f"not enough memory on the device for a tile of a {self.what}: the CPU takes over")

    def _say(self, remark: str) -> None:
        kind = remark.rpartition(":")[2]
        if kind not in self._said:
            log.warning("%s", remark)
        self._said.add(kind)

    @property
    def _smallest_tile(self) -> int:
        return max(_SMALLEST_TILE, self.needs.smallest_side)

    def _is_last_resort(self) -> bool:
        return len(self.devices) == 1 and self.pairs == 1 and max(self.tile) <= self._smallest_tile

    def _in_tiles(self, *inputs: Tensor) -> Tensor:
        """What is said of overlapping tiles, blended where they overlap; each tile is seen by itself."""
        total, weights = inputs[0].new_zeros(()), inputs[0].new_zeros(self.shape)
        for tile in tiles(self.shape, self.tile):
            window = (slice(None), slice(None), *tile.window)
            found = self.network(*(each[window] for each in inputs)).float()
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
