"""What lies between images and a network: the grid it sees, and labels as the refinement compares them."""

import numpy as np
import pytest
import torch

from covoxel.registration.base import MovingBatch
from covoxel.registration.learned_svf import _label_term
from covoxel.registration.model import PairModel
from covoxel.registration.work import WorkGrid
from covoxel.spatial import Grid, Image, Transform


def model(spacing_mm: float | tuple[float, ...] | None) -> PairModel:
    return PairModel(lambda fixed, moving: fixed, spacing_mm)


@pytest.mark.parametrize(("spacing_mm", "own"), [(None, True), (1.0, True), (1.09, True), (0.95, True), (1.15, False)])
def test_an_image_keeps_its_grid_where_its_voxels_are_near_those_the_network_knows(
    spacing_mm: float | None, own: bool
) -> None:
    grid = Grid.from_spacing((20, 22, 24), (1.0, 1.0, 1.0))
    assert (WorkGrid.of(grid, model(spacing_mm)).grid is grid) is own


def test_one_axis_that_is_off_is_enough_for_another_grid_over_the_same_field_of_view() -> None:
    grid = Grid.from_spacing((20, 22, 24), (1.0, 1.0, 2.0))
    work = WorkGrid.of(grid, model((1.0, 1.0, 1.0))).grid
    assert work.shape == (20, 22, 48)
    np.testing.assert_allclose(work.spacing_mm, 1)
    np.testing.assert_allclose(work.centre_ras, grid.centre_ras)


def test_images_of_smaller_voxels_are_smoothed_and_not_aliased() -> None:
    grid = Grid.from_spacing((60, 60), 1.0)
    stripes = (torch.arange(60) % 2).float()[:, None].expand(60, 60)
    image = Image(stripes.contiguous(), grid)
    work = WorkGrid.of(grid, model(3.0))
    fixed, moved = work.images(image, MovingBatch.of([image], "cpu"), [Transform.identity(grid)])
    for seen in (fixed, moved):
        assert seen.shape == (1, 1, 20, 20)
        assert (seen[..., 2:-2, :] - 0.5).abs().max() < 0.05


def test_images_of_one_batch_are_smoothed_as_each_of_them_needs() -> None:
    fine, coarse = Grid.from_spacing((60, 60), 1.0), Grid.from_spacing((20, 20), 3.0)
    noise = [Image(torch.rand(g.shape, generator=torch.Generator().manual_seed(1)), g) for g in (fine, coarse)]
    work = WorkGrid.of(coarse, model(3.0))
    start = [Transform.identity(coarse)] * 2
    _, moved = work.images(noise[1], MovingBatch.of(noise, "cpu"), start)
    torch.testing.assert_close(moved[1, 0], noise[1].data, atol=1e-4, rtol=0)
    assert moved[0].std() < 0.5 * noise[0].data.std()


def test_labels_are_smoothed_by_millimetres_whatever_the_voxels() -> None:
    grid, other = Grid.from_spacing((40, 40), (1.0, 0.5)), Grid.from_spacing((60, 40), (0.4, 0.8))

    def corner(on: Grid) -> torch.Tensor:
        inside = torch.zeros(on.shape)
        inside[: on.shape[0] // 2, : on.shape[1] // 2] = 1
        return torch.stack([1 - inside, inside])

    batch = MovingBatch.of(
        [Image(torch.zeros(g.shape), g) for g in (other, grid)], "cpu", labels=[corner(other), corner(grid)]
    )
    term = _label_term(corner(grid), Image(torch.zeros(grid.shape), grid), batch, "squared_error", 2.5, 1.2)
    assert term.weight == 2.5
    for smooth, own in ((term.fixed[0, 1], grid), (term.moving.data[0, 1], other), (term.moving.data[1, 1], grid)):
        part = smooth[: own.shape[0], : own.shape[1]]
        across, along = part[:, 5], part[5, :]
        for profile, spacing in zip((across, along), own.spacing_mm, strict=True):
            slope = profile[: own.shape[0]].diff().abs()
            assert float(slope.sum()) == pytest.approx(1, abs=1e-3)
            place = torch.arange(len(slope)) * float(spacing)
            middle = (slope * place).sum()
            assert float((slope * (place - middle) ** 2).sum().sqrt()) == pytest.approx(1.2, rel=0.05)
