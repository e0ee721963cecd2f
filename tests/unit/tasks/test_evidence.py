"""Evidence of a large image: cells of several voxels, no larger than they must be."""

from math import prod

import numpy as np
import pytest
import torch

from covoxel.spatial import Grid, Image
from tasks.evidence import cells_within, labels_of_cells


def grid(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize(
    ("shape", "spacing", "most", "wanted"),
    [
        ((40, 40, 40), (1, 1, 1), 64_000, (1, 1, 1)),
        ((40, 40, 40), (1, 1, 1), 63_999, (2, 2, 2)),
        ((40, 40, 40), (1, 1, 1), 1_000, (4, 4, 4)),
        ((80, 80, 10), (0.5, 0.5, 4), 20_000, (2, 2, 1)),
        ((100, 90), (2, 2), 1_200, (3, 3)),
        ((40, 40, 40), (1, 1, 1), None, (1, 1, 1)),
    ],
)
def test_cells_are_as_small_as_their_number_allows_and_nearly_cubes(
    shape: tuple[int, ...], spacing: tuple[float, ...], most: int | None, wanted: tuple[int, ...]
) -> None:
    assert cells_within(grid(shape, spacing), most) == wanted


@pytest.mark.parametrize("most", [1, 7, 500, 10**5])
@pytest.mark.parametrize("shape", [(61, 7, 33), (200, 200), (3, 3, 900)])
def test_cells_are_never_more_than_allowed(shape: tuple[int, ...], most: int) -> None:
    factors = cells_within(grid(shape, (1.0,) * len(shape)), most)
    assert prod(-(-side // factor) for side, factor in zip(shape, factors, strict=True)) <= most


@pytest.mark.parametrize("shape", [(8, 9), (5, 6, 7)])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_a_cell_has_the_label_of_most_of_its_voxels(shape: tuple[int, ...], kind: torch.dtype) -> None:
    data = torch.tensor(np.random.default_rng(0).integers(0, 3, shape)).to(kind)
    labels = Image(data, grid(shape, (1.0,) * len(shape)))
    most = prod(-(-side // 2) for side in shape)
    found = labels_of_cells(labels, most)
    assert found.dtype == kind
    for cell in np.ndindex(*found.shape):
        voxels = np.ix_(*[np.minimum([2 * at, 2 * at + 1], side - 1) for at, side in zip(cell, shape, strict=True)])
        assert found[cell] == np.bincount(data.numpy()[voxels].ravel()).argmax()
    assert torch.equal(labels_of_cells(labels, None), data)
