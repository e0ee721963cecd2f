"""A network within memory: less and less at a time, the same displacement, each retreat said once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from covoxel.registration.bounded import BoundedNetwork, tiles
from covoxel.registration.model import PairModel

CPU = torch.device("cpu")
PAIRS = "not enough memory for 5 pairs of this size at once: fewer are taken"
TILES = "not enough memory for a pair of this size: it is taken in overlapping tiles"
ELSEWHERE = "not enough memory on the device for a tile of a pair: the CPU takes over"
Refuse = Callable[[Tensor], bool]


def indices(shape: tuple[int, ...]) -> list[Tensor]:
    """Index along each axis, `(1, 1, *shape)`."""
    return [grid[None, None] for grid in torch.meshgrid(*[torch.arange(s).float() for s in shape], indexing="ij")]


class Short:
    """Says a function of the voxels' own values, and runs out of memory where it is told to."""

    def __init__(self, refuse: Refuse, error: type[Exception] = torch.OutOfMemoryError, text: str = "") -> None:
        self.refuse, self.error, self.text = refuse, error, text
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, fixed: Tensor, moving: Tensor) -> Tensor:
        if self.refuse(moving):
            raise self.error(self.text)
        self.seen.append((len(moving), *moving.shape[2:]))
        return torch.cat([torch.sin(fixed / 9) + moving, torch.cos(moving / 7)], 1)


def bounded(
    said: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], *devices: torch.device, **needs: int
) -> BoundedNetwork:
    return BoundedNetwork(said, PairModel(said, **needs), shape, devices or [CPU])


def pairs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    i, j = indices(shape)[:2]
    return i, torch.cat([j + number for number in range(5)])


def test_with_room_all_pairs_are_one_call_and_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    said = Short(lambda moving: False)
    fixed, moving = pairs((20, 30))
    network = bounded(said, (20, 30), bytes_per_voxel=10)
    assert torch.equal(network(fixed, moving), said(fixed.expand_as(moving), moving))
    assert said.seen[0] == (5, 20, 30)
    assert not caplog.records


def test_what_a_voxel_needs_bounds_the_pairs_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covoxel.registration.bounded._WORKING_BYTES", {"cpu": 2 * 600 * 100 + 5})
    said = Short(lambda moving: False)
    bounded(said, (20, 30), bytes_per_voxel=100)(*pairs((20, 30)))
    assert [batch for batch, *_ in said.seen] == [2, 2, 1]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (MemoryError, ""),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
@pytest.mark.parametrize(
    ("refuse", "remarks"),
    [
        (lambda moving: len(moving) > 2, [PAIRS]),
        (lambda moving: len(moving) > 1 or max(moving.shape) > 40, [PAIRS, TILES]),
    ],
)
def test_with_less_room_less_is_taken_and_the_result_is_the_same(
    refuse: Refuse, remarks: list[str], error: type[Exception], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    fixed, moving = pairs((70, 90))
    wanted = Short(lambda moving: False)(fixed.expand_as(moving), moving)
    said = Short(refuse, error, text)
    found = bounded(said, (70, 90), bytes_per_voxel=1)(fixed, moving)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
    assert [record.message for record in caplog.records] == remarks


def test_in_the_end_another_device_takes_over(caplog: pytest.LogCaptureFixture) -> None:
    fixed, moving = pairs((70, 90))
    tried: list[tuple[int, ...]] = []

    def refuse(part: Tensor) -> bool:
        tried.append(tuple(part.shape[2:]))
        return len(set(tried)) < 4 or tried[-1] != (70, 90)

    said = Short(refuse)
    found = bounded(said, (70, 90), CPU, CPU, bytes_per_voxel=1, smallest_side=40)(fixed, moving)
    torch.testing.assert_close(found, Short(lambda moving: False)(fixed.expand_as(moving), moving))
    assert tried[-1] == (70, 90)
    assert min(min(shape) for shape in tried) == 40, "a tile is no smaller than the network can take"
    assert said.seen == [(1, 70, 90)] * 5
    assert [record.message for record in caplog.records] == [PAIRS, TILES, ELSEWHERE]


def test_without_another_device_it_ends_with_the_error() -> None:
    network = bounded(Short(lambda moving: True), (70, 90))
    with pytest.raises(torch.OutOfMemoryError):
        network(*pairs((70, 90)))


def test_other_errors_of_a_network_are_not_hidden() -> None:
    network = bounded(Short(lambda moving: True, RuntimeError, "shapes differ"), (70, 90))
    with pytest.raises(RuntimeError, match="shapes differ"):
        network(*pairs((70, 90)))


def test_tiles_that_disagree_are_blended_without_a_seam() -> None:
    shape = (100, 40)

    def says_where_it_is(fixed: Tensor, moving: Tensor) -> Tensor:
        if max(moving.shape) > 60:
            raise torch.OutOfMemoryError
        return fixed.mean((2, 3), keepdim=True).expand(len(fixed), 2, *fixed.shape[2:])

    first = indices(shape)[0]
    found = bounded(says_where_it_is, shape)(first, first)[0, 0]
    assert found[0, 0] < 30
    assert found[-1, 0] > 70
    assert found.diff(dim=0).abs().max() < 0.25 * (found[-1, 0] - found[0, 0])
    assert (found.diff(dim=0) >= -1e-4).all()


@pytest.mark.parametrize(("shape", "sides"), [((100,), (32,)), ((33, 70), (32, 70)), ((64, 90, 40), (40, 40, 40))])
def test_tiles_cover_the_image_and_overlap_by_a_quarter(shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    counts = torch.zeros(shape)
    parts = list(tiles(shape, sides))
    for tile in parts:
        assert tile.sides == sides
        counts[tile.window] += 1
    assert counts.min() == 1
    for axis, (whole, side) in enumerate(zip(shape, sides, strict=True)):
        starts = sorted({tile.starts[axis] for tile in parts})
        assert starts[0] == 0
        assert starts[-1] == whole - side
        assert all(0 < b - a <= side - side // 4 for a, b in zip(starts, starts[1:], strict=False))
