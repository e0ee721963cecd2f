"""Segmentation of an image: what a network says of what it sees, brought back to where the image is, view by view."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from covoxel.segmentation import ImageModel, segment
from covoxel.segmentation.segmented import ViewMean, probabilities_of
from covoxel.segmentation.views import random_views
from covoxel.spatial import Grid, Image, voxel_coordinates
from tests.conftest import oriented_grid

VALUES = (0, 3, 8)
Logits = Callable[[Tensor], Tensor]


def by_intensity(image: Tensor) -> Tensor:
    """Sure logits: background below 0.25, label 3 below 0.75, else label 8."""
    return -200 * (image - torch.tensor([0.0, 0.5, 1.0], device=image.device).view(1, 3, *[1] * (image.ndim - 2))) ** 2


def halves(grid: Grid, radius_mm: float = 9.0) -> tuple[Image, Tensor]:
    """A ball about the grid's middle, in world axes: left half 0.5, right half 1; and its labels 3 and 8."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    from_centre = torch.tensor(grid.to_ras(index) - grid.centre_ras)
    inside, right = from_centre.norm(dim=-1) < radius_mm, from_centre[..., 0] > 0.01
    intensities = inside * torch.where(right, 1.0, 0.5)
    return Image(intensities.float(), grid), torch.where(inside, torch.where(right, 8, 3), 0)


def dice(first: Tensor, second: Tensor, value: int) -> float:
    one, other = first == value, second == value
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("spacing_mm", [None, (1.0, 1.5, 2.5)])
def test_on_its_own_voxels_an_image_comes_back_voxel_by_voxel(grid: Grid, spacing_mm: tuple[float, ...] | None) -> None:
    image, truth = halves(grid)
    found = segment(ImageModel(by_intensity, VALUES, spacing_mm), image, views=1)
    assert torch.equal(found.label_map, truth)
    assert found.image.grid is grid
    assert found.values.tolist() == [0, 3, 8]
    assert found.spread == 0
    torch.testing.assert_close(found.probabilities.sum(0), torch.ones(grid.shape))


def test_a_network_sees_the_voxels_that_it_knows_with_axes_nearest_to_ras() -> None:
    grid, seen = oriented_grid("LPS"), []

    def logits(image: Tensor) -> Tensor:
        seen.append(image)
        return by_intensity(image)

    image, truth = halves(grid)
    found = segment(ImageModel(logits, VALUES, (1.25, 1.25, 1.25)), image, views=1)
    assert [tuple(each.shape) for each in seen] == [(1, 1, 15, 18, 22)]
    row = seen[0][0, 0, :, 9, 11]
    assert row[row > 0.3][0] < 0.6, "the left half is first along R"
    assert row[row > 0.3][-1] > 0.9
    assert min(dice(found.label_map, truth, value) for value in (3, 8)) > 0.85


def test_views_are_brought_back_to_where_they_were_seen() -> None:
    grid = oriented_grid("oblique", (26, 20, 14))
    image, truth = halves(grid)
    model, seen = ImageModel(by_intensity, VALUES), []

    def logits(image: Tensor) -> Tensor:
        seen.append(image.clone())
        return by_intensity(image)

    found = segment(ImageModel(logits, VALUES), image, views=5, seed=3)
    views = torch.cat(seen)
    assert len(views) == 5
    torch.testing.assert_close(views[0, 0], image.data)
    assert all(float((view - views[0]).abs().mean()) > 0.01 for view in views[1:])
    assert min(dice(found.label_map, truth, value) for value in (3, 8)) > 0.93
    assert 0 < found.spread < 0.2
    torch.testing.assert_close(found.probabilities.sum(0), torch.ones(grid.shape))

    again, other = segment(model, image, views=5, seed=3), segment(model, image, views=5, seed=4)
    assert torch.equal(again.probabilities, found.probabilities)
    assert again.spread == found.spread
    assert not torch.equal(other.probabilities, found.probabilities)


def test_less_at_a_time_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = halves(oriented_grid("RAS", (26, 20, 14)))
    model = ImageModel(by_intensity, VALUES)
    whole = segment(model, image, views=4)
    monkeypatch.setattr("covoxel.segmentation.segmented.CHUNK_BYTES", 1)
    parts = segment(model, image, views=4)
    torch.testing.assert_close(parts.probabilities, whole.probabilities, atol=1e-5, rtol=0)
    assert parts.spread == pytest.approx(whole.spread, abs=1e-3)


def test_a_network_short_of_memory_takes_tiles() -> None:
    image, truth = halves(oriented_grid("RAS", (80, 24, 20)))

    def logits(image: Tensor) -> Tensor:
        if image.numel() > 40 * 24 * 20:
            raise torch.OutOfMemoryError
        return by_intensity(image)

    assert torch.equal(segment(ImageModel(logits, VALUES), image, views=1).label_map, truth)


def test_another_grid_may_be_asked_for_and_beyond_the_image_is_background() -> None:
    grid = oriented_grid("LAS", (24, 18, 12))
    ones = Image(torch.ones(grid.shape), grid)
    wanted = Grid((30, 40, 30), oriented_grid("RAS", (30, 40, 30)).ras_from_voxel)
    found = segment(ImageModel(by_intensity, VALUES), ones, onto=wanted, views=3)
    index = np.stack(np.meshgrid(*map(np.arange, wanted.shape), indexing="ij"), -1)
    at = grid.to_voxel(wanted.to_ras(index))
    inside = torch.tensor(((at >= -0.5) & (at <= np.array(grid.shape) - 0.5)).all(-1))
    assert torch.equal(found.label_map == 8, inside)
    assert torch.equal(found.label_map == 0, ~inside)
    assert found.probabilities[0][~inside].eq(1).all()


def test_on_finer_voxels_probabilities_are_interpolated_and_labels_stay_where_they_are() -> None:
    grid = oriented_grid("LPS", (24, 18, 12))
    image, truth = halves(grid)
    fine = grid.with_shape((48, 36, 24))
    found = segment(ImageModel(by_intensity, VALUES), image, onto=fine, views=1)
    assert 7.5 < float((found.label_map > 0).sum() / (truth > 0).sum()) < 8.5
    blocks = found.label_map.view(24, 2, 18, 2, 12, 2).movedim((1, 3, 5), (0, 1, 2)).reshape(8, *grid.shape)
    assert float((blocks.mode(0).values == truth).float().mean()) > 0.99


def test_spread_is_the_share_of_views_that_say_another_label_near_structures() -> None:
    grid = Grid.from_spacing((4, 5))
    mean = ViewMean((0, 1), grid, "cpu")
    at = voxel_coordinates(grid.shape, torch.zeros(()))
    for structure in (2, 2, 2, 3):
        label = torch.zeros(grid.shape)
        label[:structure] = 1
        mean.add(torch.stack([1 - label, label]), at)
    found = mean.segmented()
    # Rows 0 and 1: all agree. Row 2: one view of four says the structure. Row 3: nowhere near it.
    assert found.label_map.sum() == 10
    assert found.spread == pytest.approx((0 + 0 + 1 / 4) / 3)


def test_a_view_counts_only_where_it_has_data() -> None:
    grid = Grid.from_spacing((6, 5))
    mean = ViewMean((0, 1), grid, "cpu")
    at = voxel_coordinates(grid.shape, torch.zeros(()))
    beside = at.clone()
    beside[:, 0] += 3  # of rows 3 to 5 this view has nothing
    mean.add(torch.stack([torch.full((6, 5), 0.3), torch.full((6, 5), 0.7)]), at)
    mean.add(torch.stack([torch.ones((6, 5)), torch.zeros((6, 5))]), beside)
    found = mean.segmented()
    torch.testing.assert_close(found.probabilities[1, :3], torch.full((3, 5), 0.35))
    torch.testing.assert_close(found.probabilities[1, 3:], torch.full((3, 5), 0.7))
    assert found.spread == pytest.approx((3 * 0.5 + 0) / 6)


def test_views_turn_millimetres_and_not_voxels() -> None:
    grid = Grid.from_spacing((20, 30, 10), (1.0, 1.0, 3.0))
    views = random_views(grid, 200, 1)
    np.testing.assert_array_equal(views[0], np.eye(4))
    spacing = np.diag(grid.spacing_mm)
    for view in views[1:]:
        linear = spacing @ view[:3, :3] @ np.linalg.inv(spacing)
        sizes = np.linalg.svd(linear, compute_uv=False)
        assert np.abs(np.log(sizes)).max() < 0.25
    middle = np.append((np.array(grid.shape) - 1) / 2, 1)
    shifts = (views[1:] @ middle - middle)[:, :3]
    assert 0.8 < shifts.std() < 1.2
    turns = np.array([(spacing @ v[:3, :3] @ np.linalg.inv(spacing))[0, 1] for v in views[1:]])
    assert 0.07 < turns.std() < 0.13


def test_two_dimensions() -> None:
    grid = Grid.from_spacing((40, 36))
    image, truth = halves(grid)
    assert torch.equal(segment(ImageModel(by_intensity, VALUES), image, views=1).label_map, truth)
    assert dice(segment(ImageModel(by_intensity, VALUES), image, views=4).label_map, truth, 8) > 0.95


def test_what_is_wrong_is_said() -> None:
    image, _ = halves(oriented_grid("RAS"))
    with pytest.raises(ValueError, match="views must be at least 1, got 0"):
        segment(ImageModel(by_intensity, VALUES), image, views=0)
    with pytest.raises(ValueError, match="at least 16 voxels a side"):
        segment(ImageModel(by_intensity, VALUES, smallest_side=16), image)
    with pytest.raises(ValueError, match="knows images of 2 dimensions"):
        segment(ImageModel(by_intensity, VALUES, (1.0, 1.0)), image)
    with pytest.raises(ValueError, match="must say 2 labels, got 3"):
        segment(ImageModel(by_intensity, (0, 1)), image)
    with pytest.raises(ValueError, match="must be finite"):
        segment(ImageModel(lambda seen: by_intensity(seen) * torch.nan, VALUES), image)
    for values in ((0,), (1, 2), (0, 2, 2), (0, 3, 1)):
        with pytest.raises(ValueError, match="ascend from 0"):
            ImageModel(by_intensity, values)


def test_probabilities_are_those_of_the_logits_however_large() -> None:
    logits = torch.randn((2, 4, 3, 5)) * 300
    wanted = logits.softmax(1)
    torch.testing.assert_close(probabilities_of(logits.clone(), 4), wanted)
