"""The whole chain and its way back, over orientations and spacings."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from covoxel.preprocessing import (
    LabelRestorer,
    normalise,
    preprocess,
    respaced,
    restore_labels,
    restore_map,
    restore_probabilities,
    shared_lattice,
)
from covoxel.spatial import Grid, Image


def blob(grid: Grid, radius_mm: float = 6.0) -> tuple[Image, Image]:
    """Intensities and labels (0, 1, 2) of a ball about the middle of the grid, in the world."""
    index = np.stack(np.meshgrid(*[np.arange(s) for s in grid.shape], indexing="ij"), -1)
    offset = torch.as_tensor(grid.to_ras(index) - grid.centre_ras)
    distance = offset.square().sum(-1).sqrt()
    labels = (distance < radius_mm).long() + (distance < radius_mm / 2).long()
    return Image((100 * torch.exp(-((distance / radius_mm) ** 2))).float().clamp(min=5) - 5, grid), Image(labels, grid)


def one_hot(label_map: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(label_map, 3).movedim(-1, 0).float()


def planes(grid: Grid) -> list[Grid]:
    return [grid, Grid(grid.shape[:2], np.array([[0.2, -1.5, 3.0], [-1.0, 0.1, 8.0], [0.0, 0.0, 1.0]]))]


@pytest.mark.parametrize("crop", [False, True])
def test_turned_and_cropped_the_way_back_is_a_copy(crop: bool, grid: Grid) -> None:
    for own in planes(grid):
        image, labels = blob(own, radius_mm=3.5)
        result = preprocess(image, crop=crop, margin_mm=1.0)
        assert (np.diag(result.grid.ras_from_voxel[: own.ndim, : own.ndim]) > 0).all()
        assert (result.grid.size < own.size) == crop
        prepared = restore_map(labels.data.float(), own, result.grid)
        back = restore_labels(one_hot(prepared.data.long()), result.grid, own)
        assert torch.equal(back.data, labels.data)
        assert back.grid is own
        intensities = restore_map(result.data, result.grid, own).data
        inside = restore_map(torch.ones(result.grid.shape), result.grid, own).data > 0
        assert_close(intensities[inside], normalise(image)[inside], atol=1e-5, rtol=0)


def test_without_any_step_the_intensities_are_just_normalised(grid: Grid) -> None:
    image, _ = blob(grid)
    result = preprocess(image)
    assert torch.equal(restore_map(result.data, result.grid, grid).data, normalise(image))


def test_another_spacing_comes_back_within_a_voxel(grid: Grid) -> None:
    for own in planes(grid):
        image, labels = blob(own)
        result = preprocess(image, spacing_mm=1.0)
        assert_close(result.grid.spacing_mm, np.ones(own.ndim), atol=0.06, rtol=0)
        assert shared_lattice(result.grid, own) is None
        _, there = blob(result.grid)
        back = restore_labels(one_hot(there.data), result.grid, own, values=[0, 4, 9])
        expected = torch.tensor([0, 4, 9])[labels.data]
        assert (back.data != expected).float().mean() < 0.03
        for value in (4, 9):
            a, b = back.data == value, expected == value
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85


def test_a_field_of_view_ends_at_the_faces_of_its_voxels_and_not_at_their_centres() -> None:
    coarse = Grid.from_spacing((4, 4, 4), 3.0)
    fine = coarse.with_spacing(1.0)
    whole = torch.zeros(2, 4, 4, 4)
    whole[1] = 1
    assert (restore_labels(whole, coarse, fine).data == 1).all()
    larger = fine.cropped((-2, -2, -2), (16, 16, 16))
    back = restore_labels(whole, coarse, larger).data
    assert int((back == 1).sum()) == 12**3
    assert (back[2:14, 2:14, 2:14] == 1).all()


def test_probabilities_stay_probabilities_and_background_lies_beyond(grid: Grid) -> None:
    probabilities = torch.rand(3, *grid.shape).softmax(0)
    matrix = grid.ras_from_voxel.copy()
    matrix[:3, :3] *= 0.7
    onto = Grid((30, 30, 30), matrix)
    restored = restore_probabilities(probabilities, grid, onto)
    assert_close(restored.sum(0), torch.ones(onto.shape), atol=1e-5, rtol=0)
    outside = restore_map(torch.ones(grid.shape), grid, onto).data == 0
    assert outside.any()
    assert (restored[0][outside] == 1).all()


def test_a_tie_on_the_way_back_goes_to_the_first_label() -> None:
    grid = Grid.from_spacing((3, 3))
    even = torch.full((3, 3, 3), 1 / 3)
    assert (restore_labels(even, grid, grid, values=[0, 2, 5]).data == 0).all()
    with pytest.raises(ValueError, match="as many as"):
        restore_labels(even, grid, grid, values=[0, 2])
    with pytest.raises(ValueError, match="must lie on the grid"):
        restore_labels(even, Grid.from_spacing((4, 4)), grid)


def test_a_linear_ramp_keeps_its_values_in_the_world_through_a_change_of_spacing(grid: Grid) -> None:
    index = np.stack(np.meshgrid(*[np.arange(s) for s in grid.shape], indexing="ij"), -1)
    slope = np.array([1.0, -2.0, 0.5])
    ramp = Image(torch.as_tensor(grid.to_ras(index) @ slope, dtype=torch.float32), grid)
    for spacing in ((1.0, 1.5, 1.0), (2.0, 2.0, 2.5)):
        result = respaced(ramp, spacing)
        there = np.stack(np.meshgrid(*[np.arange(s) for s in result.grid.shape], indexing="ij"), -1)
        expected = torch.as_tensor(result.grid.to_ras(there) @ slope, dtype=torch.float32)
        inner = (slice(4, -4), slice(3, -3), slice(2, -2))
        assert_close(result.data[inner], expected[inner], atol=1e-3, rtol=0)


def test_a_pattern_too_fine_for_the_new_voxels_is_smoothed_and_not_aliased() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(48)[:, None].expand(96, 20).clone()
    coarse = respaced(Image(stripes, Grid.from_spacing((96, 20))), (3.0, 1.0))
    assert coarse.grid.shape == (32, 20)
    assert (coarse.data[3:-3] - 0.5).abs().max() < 0.1
    assert (stripes[1::3] - 0.5).abs().min() == 0.5


def test_spacing_that_is_already_right_changes_no_bit(grid: Grid) -> None:
    image, _ = blob(grid)
    assert respaced(image, grid.spacing_mm * 1.005) is image
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        respaced(image, 0.0)


def test_with_bias_correction_and_all_the_rest(grid: Grid) -> None:
    image, _ = blob(grid)
    result = preprocess(image, bias=True, spacing_mm=1.5, crop=True, margin_mm=2.0)
    assert result.data.isfinite().all()
    assert result.data.min() >= 0
    assert result.data.max() <= 1
    assert_close(result.grid.centre_ras, image.grid.centre_ras, atol=2.0, rtol=0)


def oblique(shape: tuple[int, ...], spacing: float, turn: float) -> Grid:
    """A grid that is turned about the middle of the world."""
    n = len(shape)
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.eye(n + 1)
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    matrix[:n, :n] *= spacing
    matrix[:n, n] = -matrix[:n, :n] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape, matrix)


@pytest.mark.parametrize("onto", [((31, 14, 20), 0.7, 0.0), ((12, 13, 11), 2.0, 0.4), ((24, 26), 0.9, 1.1)])
def test_labels_that_come_part_by_part_are_those_of_all(onto: tuple[tuple[int, ...], float, float]) -> None:
    shape = (16, 14, 12)[: len(onto[0])]
    grid, wanted = Grid.from_spacing(shape, 1.0), oblique(*onto)
    probabilities = torch.rand((4, *shape)).square()
    probabilities /= probabilities.sum(0)
    values = torch.tensor([0, 3, 40, 207])
    whole = restore_labels(probabilities, grid, wanted, values=values).data
    restorer = LabelRestorer(grid, wanted, torch.uint8)
    assert restorer.reach == 1
    for i in range(0, 16, 5):
        for j in range(0, 14, 7):
            part = (slice(i, min(i + 5, 16)), slice(j, j + 7), *(slice(0, side) for side in shape[2:]))
            around = tuple(slice(max(0, p.start - 1), min(s, p.stop + 1)) for p, s in zip(part, shape, strict=True))
            some = torch.tensor([0, 1, 2, 3] if i else [0, 1, 3])
            here = probabilities[(slice(None), *around)].clone()
            if not i:  # a label that does not occur in a part is not named there
                here[0] += here[2]
                here = here[some]
            restorer.put(part, around, here, values[some])
    found = restorer.restored(torch.zeros(shape, dtype=torch.uint8)).data
    assert found.dtype == torch.uint8
    index = np.stack(np.meshgrid(*[np.arange(s) for s in wanted.shape], indexing="ij"), -1)
    at = torch.as_tensor(grid.to_voxel(wanted.to_ras(index)))
    late = at[..., 0] > 5.5  # where all labels were named
    assert late.any()
    assert torch.equal(found[late].long(), whole[late])
    beyond = ((at < -0.51) | (at > torch.tensor(shape) - 0.49)).any(-1)
    assert (found[beyond] == 0).all()
    assert (found[~beyond] > 0).float().mean() > 0.3
