"""Segmentation beside labelled images: each is laid on the image with its labels, and what is said is averaged."""

import numpy as np
import pytest
import torch
from torch import Tensor

from covoxel.segmentation import PairSegmenter, segment_pairs
from covoxel.spatial import Grid, Image

VALUES = (0, 3, 8)
GRID = Grid((20, 16, 12), np.array([[-1.0, 0, 0, 5], [0, -1.0, 0, 2], [0, 0, 2.0, -7], [0, 0, 0, 1]]))


def repeats(fixed: Tensor, moving: Tensor, labels: Tensor) -> Tensor:
    """Says the labels of the moving image wherever something is known."""
    assert fixed.shape == moving.shape
    return 50 * labels


def block(grid: Grid, first: int, value: int = 3) -> tuple[Image, Image]:
    """An image of noise, and a label map with a block of four voxels from `first` on along the first axis."""
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    labels[first : first + 4, 4:10, 3:8] = value
    return Image(torch.rand(grid.shape), grid), Image(labels, grid)


def elsewhere(grid: Grid, shift_mm: float) -> Grid:
    """The same voxels in another place of the world."""
    matrix = grid.ras_from_voxel.copy()
    matrix[0, -1] += shift_mm
    return Grid(grid.shape, matrix)


def test_labels_lie_on_the_image_as_the_moving_image_is_laid() -> None:
    fixed, _ = block(GRID, 0)
    away = elsewhere(GRID, 40.0)
    moving, labels = block(away, 6, 8)
    found = segment_pairs(PairSegmenter(repeats, VALUES), fixed, [moving], [labels])
    assert torch.equal(found.label_map, labels.data)
    assert found.image.grid is fixed.grid
    assert found.spread == 0
    near = elsewhere(GRID, -3.0)  # the header says: three voxels further along the first axis, which runs to the left
    by_header = segment_pairs(
        PairSegmenter(repeats, VALUES, alignment="none"), fixed, [block(near, 6)[0]], [block(near, 6)[1]]
    )
    assert torch.equal(by_header.label_map, block(GRID, 9)[1].data)


def test_what_is_said_beside_each_image_is_averaged() -> None:
    fixed, _ = block(GRID, 0)
    pairs = [block(GRID, first) for first in (6, 6, 8)]
    found = segment_pairs(PairSegmenter(repeats, VALUES), fixed, [p[0] for p in pairs], [p[1] for p in pairs])
    assert torch.equal(found.label_map, pairs[0][1].data)
    assert found.probabilities[1, 6, 5, 4] == pytest.approx(2 / 3, abs=1e-5)
    assert found.probabilities[1, 8, 5, 4] == pytest.approx(1, abs=1e-5)
    # Near the structure: planes 6 to 11; one of three views says other in 6 and 7, and in 10 and 11.
    assert found.spread == pytest.approx((4 * 1 / 3 + 2 * 0) / 6, abs=1e-6)


def test_of_values_that_the_network_does_not_know_nothing_is_known() -> None:
    fixed, _ = block(GRID, 0)
    moving, labels = block(GRID, 6, value=5)
    seen: list[Tensor] = []

    def logits(fixed: Tensor, moving: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return 50 * labels

    segment_pairs(PairSegmenter(logits, VALUES), fixed, [moving], [labels])
    assert int((seen[0].sum(1) == 0).sum()) == 4 * 6 * 5


def test_other_voxels_and_less_at_a_time_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, _ = block(GRID, 0)
    pairs = [block(GRID, first) for first in (6, 7)]
    images, labels = [p[0] for p in pairs], [p[1] for p in pairs]
    own = segment_pairs(PairSegmenter(repeats, VALUES), fixed, images, labels)
    other = segment_pairs(PairSegmenter(repeats, VALUES, (0.5, 0.5, 1.0)), fixed, images, labels)
    assert float((own.probabilities - other.probabilities).abs().mean()) < 0.02
    monkeypatch.setattr("covoxel.segmentation.segmented.CHUNK_BYTES", 1)
    parts = segment_pairs(PairSegmenter(repeats, VALUES), fixed, images, labels)
    torch.testing.assert_close(parts.probabilities, own.probabilities)


def test_what_is_wrong_is_said() -> None:
    fixed, _ = block(GRID, 0)
    moving, labels = block(GRID, 6)
    model = PairSegmenter(repeats, VALUES)
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        segment_pairs(model, fixed, [], [])
    with pytest.raises(ValueError, match="as many, at least one, got 1 and 2"):
        segment_pairs(model, fixed, [moving], [labels, labels])
    with pytest.raises(ValueError, match="label map 0 must lie on the grid of its image"):
        segment_pairs(model, fixed, [moving], [block(elsewhere(GRID, 4.0), 6)[1]])
    flat = Grid.from_spacing((9, 9))
    with pytest.raises(ValueError, match="must be 3-D like the fixed one, got 2-D"):
        segment_pairs(model, fixed, [Image(torch.zeros(9, 9), flat)], [Image(torch.zeros(9, 9).long(), flat)])
