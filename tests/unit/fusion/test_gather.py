"""Evidence gathered by transforms: values, labels and the field of view."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from covoxel.fusion import gather_evidence
from covoxel.spatial import Grid, Image, Transform


def atlas_of(grid: Grid) -> tuple[Image, Image]:
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    labels[3:9, 4:9, 2:8] = 4
    labels[9:12, 4:9, 2:8] = 6
    return Image(labels.float() + torch.rand(grid.shape), grid), Image(labels, grid)


def test_an_atlas_on_the_fixed_grid_is_taken_as_it_is(grid: Grid) -> None:
    image, labels = atlas_of(grid)
    evidence = gather_evidence(image, [image], [labels], [Transform.identity(grid)])
    assert evidence.values.tolist() == [0, 4, 6]
    assert evidence.valid.all()
    assert_close(evidence.moved[0], image.data, atol=1e-4, rtol=0)
    for index, value in enumerate((0, 4, 6)):
        assert_close(evidence.labels[0, index], (labels.data == value).float(), atol=1e-4, rtol=0)


def test_a_whole_voxel_shift_shifts_and_what_comes_from_outside_is_not_valid(grid: Grid) -> None:
    image, labels = atlas_of(grid)
    labels.data[-1] = 6
    shift = np.eye(4)
    shift[:3, 3] = grid.ras_from_voxel[:3, 0] * 2
    evidence = gather_evidence(image, [image], [labels], [Transform(grid, shift)])
    assert_close(evidence.moved[0, :-2], image.data[2:], atol=1e-4, rtol=0)
    assert evidence.valid[0, :-2].all()
    assert not evidence.valid[0, -2:].any()
    assert (evidence.labels[0, 0, -2:] == 1).all()
    assert (evidence.labels[0, 1:, -2:] == 0).all()


def test_the_label_set_is_the_union(grid: Grid) -> None:
    image, labels = atlas_of(grid)
    other = Image(labels.data.masked_fill(labels.data == 6, 9), grid)
    identity = Transform.identity(grid)
    evidence = gather_evidence(image, [image] * 2, [labels, other], [identity] * 2)
    assert evidence.values.tolist() == [0, 4, 6, 9]
    assert evidence.labels[0, 3].abs().max() == 0
    assert_close(evidence.labels.sum(1), torch.ones(2, *grid.shape), atol=1e-5, rtol=0)


def test_counts_and_grids_must_fit(grid: Grid) -> None:
    image, labels = atlas_of(grid)
    with pytest.raises(ValueError, match="as many"):
        gather_evidence(image, [image], [labels], [])
    moved = Image(labels.data, grid.cropped((1, 0, 0), grid.shape))
    with pytest.raises(ValueError, match="label map 0 must lie on the grid of its image"):
        gather_evidence(image, [image], [moved], [Transform.identity(grid)])
