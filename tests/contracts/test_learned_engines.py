"""What engines with a network must be: what the network says in voxels is done in millimetres, whatever the grids."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from covoxel.registration import PairError, PairModel, register
from covoxel.registration.model import Alignment
from covoxel.registration.work import WorkGrid
from covoxel.spatial import Grid, Image, resample
from covoxel.spatial.field import displacement_vox_from_mm, jacobian_determinant
from tests.contracts.moved_head import GRIDS, Map, Points, draw, errors_mm, head, points, run, smooth_warp

ENGINES = ["learned", "learned+svf"]


def half_warp(at: Points) -> Points:
    moved: Points = at + 0.5 * (smooth_warp(at) - at)
    return moved


def knows(truth: Map, fixed: Grid, alignment: Alignment = "centre", spacing_mm: float | None = None) -> PairModel:
    """A network that says the displacement of a map of the world, in voxels of the grid on which it sees `fixed`."""
    anything = PairModel(lambda fixed, moving: fixed, spacing_mm)
    grid = WorkGrid.of(fixed, anything).grid
    index = np.stack(np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij"), -1)
    displacement_vox = torch.tensor(np.moveaxis(grid.to_voxel(truth(grid.to_ras(index))) - index, -1, 0)).float()

    def displacement(fixed: Tensor, moving: Tensor) -> Tensor:
        assert fixed.shape == moving.shape == (len(moving), 1, *grid.shape)
        return displacement_vox.expand(len(moving), *displacement_vox.shape)

    return PairModel(displacement, spacing_mm, alignment)


def turned(shape: tuple[int, ...], spacing_mm: tuple[float, ...], radians: float = 0.2, flips: int = 0) -> Grid:
    """Oblique grid of voxels that are no cubes, some axes running the other way."""
    n = len(shape)
    matrix = np.eye(n + 1)
    turn = Rotation.from_rotvec([0, 0, radians] if n == 2 else np.array([0.5, -0.6, 0.7]) * radians).as_matrix()
    signs = np.array([-1.0 if axis < flips else 1.0 for axis in range(n)])
    matrix[:n, :n] = turn[:n, :n] @ np.diag(signs * np.array(spacing_mm))
    matrix[:n, n] = np.array([3.0, -2.0, 1.0])[:n] - matrix[:n, :n] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, matrix)


FIXED = {
    "3-D": turned((44, 52, 26), (1.8, 1.5, 2.6), flips=2),
    "3-D swapped": Grid((32, 34, 40), GRIDS[3].ras_from_voxel[:, [2, 0, 1, 3]]),
    "2-D": turned((68, 60), (1.0, 1.4), flips=1),
}


@pytest.mark.parametrize("name", sorted(FIXED))
@pytest.mark.parametrize(("spacing_mm", "within_mm"), [(None, 1e-3), (1.2, 0.1)])
def test_what_the_network_says_in_voxels_is_done_in_millimetres(
    name: str, spacing_mm: float | None, within_mm: float
) -> None:
    grid = FIXED[name]
    away = np.eye(grid.ndim + 1)
    away[:-1, -1] = [11.0, -7.0, 4.0][: grid.ndim]
    other = Grid(tuple(side + 5 for side in grid.shape), away @ turned(grid.shape, (1.7,) * grid.ndim).ras_from_voxel)
    model = knows(smooth_warp, grid, "centre", spacing_mm)
    still, moved = register("learned", draw(grid), [draw(grid), draw(other)], model=model)
    at = points(grid).reshape(-1, grid.ndim)
    inner = np.abs(grid.to_voxel(at) / (np.array(grid.shape) - 1) - 0.5).max(1) < 0.4
    truth = smooth_warp(at)
    assert np.linalg.norm(truth - at, axis=1).mean() > 2
    assert np.abs(still.map(at) - truth)[inner].max() < within_mm
    assert np.abs(moved.map(at) - truth - (other.centre_ras - grid.centre_ras))[inner].max() < within_mm


@pytest.mark.parametrize("name", sorted(FIXED))
@pytest.mark.parametrize("moving", sorted(FIXED))
def test_the_image_moved_by_it_lies_on_the_fixed_one(name: str, moving: str) -> None:
    """Nothing but the images is looked at: neither the work grid nor the units can be wrong twice."""
    grid, other = FIXED[name], FIXED[moving]
    if grid.ndim != other.ndim:
        return
    fixed, image = draw(grid, smooth_warp), draw(other)
    (found,) = register("learned", fixed, [image], model=knows(smooth_warp, grid, "none"))
    inside = torch.tensor(head(smooth_warp(points(grid))) > 0.5)
    before = (resample(image, grid).data - fixed.data)[inside].square().mean().sqrt()
    after = (resample(image, grid, found).data - fixed.data)[inside].square().mean().sqrt()
    assert after < 0.25 * before


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("spacing_mm", [None, 1.5])
def test_forth_and_back_is_where_one_was(ndim: int, spacing_mm: float | None) -> None:
    here, there = FIXED[f"{ndim}-D"], turned((50, 46, 30)[:ndim], (1.3, 1.7, 2.2)[:ndim], -0.15)

    def back(at: Points) -> Points:
        origin = at
        for _ in range(40):
            origin = at - (half_warp(origin) - origin)
        return origin

    (forward,) = register("learned", draw(here), [draw(there)], model=knows(half_warp, here, "none", spacing_mm))
    (backward,) = register("learned", draw(there), [draw(here)], model=knows(back, there, "none", spacing_mm))
    at = points(here).reshape(-1, ndim)
    at = at[head(at) > 0.5]
    assert np.linalg.norm(forward.map(at) - at, axis=1).mean() > 1
    assert np.linalg.norm(backward.map(forward.map(at)) - at, axis=1).max() < 0.15


def test_the_network_sees_the_images_upright_and_at_its_own_spacing() -> None:
    grid, other = FIXED["3-D swapped"], turned((40, 44, 60), (1.6, 1.4, 1.1), flips=3)
    seen: list[Tensor] = []

    def displacement(fixed: Tensor, moving: Tensor) -> Tensor:
        seen.extend((fixed, moving))
        return fixed.new_zeros(1, 3, *fixed.shape[2:])

    model = PairModel(displacement, (2.5, 2.5, 2.5), "none")
    (found,) = register("learned", draw(grid), [draw(other)], model=model)
    upright = Grid.from_spacing((27, 32, 26), GRIDS[3].spacing_mm * np.array(GRIDS[3].shape) / np.array([27, 32, 26]))
    expected = draw(upright).data
    assert seen[0].shape == seen[1].shape == (1, 1, 27, 32, 26)
    assert (seen[0][0, 0] - expected).abs()[1:-1, 1:-1, 1:-1].mean() < 0.02
    assert (seen[1][0, 0] - expected).abs()[head(points(upright)) > 0.5].mean() < 0.03
    assert found.grid is grid
    assert found.displacement_mm is not None
    assert found.displacement_mm.shape == (3, *grid.shape)


def test_voxels_of_equal_spacing_are_copied_and_not_interpolated() -> None:
    grid = Grid.from_spacing((20, 22, 18), (1.0, 1.2, 2.0))
    other = Grid((23, 19, 18), np.diag([1.0, 1.2, 2.0, 1.0]))
    image = Image(torch.rand(other.shape), other)
    seen: list[Tensor] = []
    model = PairModel(lambda fixed, moving: seen.append(moving) or fixed.new_zeros(1, 3, *grid.shape), 1.0)
    model = PairModel(model.displacement, (1.05, 1.2, 1.9), "centre")
    (found,) = register("learned", draw(grid), [image], model=model)
    shift = np.round(other.to_voxel(found.map(grid.to_ras(np.zeros((1, 3)))))).astype(int)[0]
    assert shift.tolist()[1:] == [-2, 0]
    assert shift[0] in (1, 2)
    # j runs over the border of the smaller image: continued.
    expected = image.data[shift[0] : shift[0] + 20][:, torch.arange(-2, 20).clamp(0, 18)]
    assert torch.equal(seen[0][0, 0], expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_refinement_keeps_what_is_right_and_mends_what_is_not(ndim: int) -> None:
    grid = FIXED[f"{ndim}-D"]
    fixed, moving = draw(grid, smooth_warp), [draw(GRIDS[ndim])]
    (right,) = register("learned+svf", fixed, moving, model=knows(smooth_warp, grid, "none"))
    assert errors_mm(right, smooth_warp).mean() < 0.7, "steps do not shrink: some tenths of a voxel are lost"
    (half,) = register("learned", fixed, moving, model=knows(half_warp, grid, "none"))
    (mended,) = register("learned+svf", fixed, moving, model=knows(half_warp, grid, "none"), iterations=(25, 10))
    (none,) = register("learned+svf", fixed, moving, model=knows(half_warp, grid, "none"), iterations=(0, 0))
    assert errors_mm(half, smooth_warp).mean() > 1.2
    assert errors_mm(mended, smooth_warp).mean() < 0.7
    assert mended.displacement_mm is not None
    assert jacobian_determinant(displacement_vox_from_mm(mended.displacement_mm[None], grid)).min() > 0
    at = points(grid).reshape(-1, ndim)
    np.testing.assert_allclose(none.map(at), half.map(at), atol=1e-3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_refinement_is_composed_with_what_the_network_says_and_not_added(ndim: int) -> None:
    grid = GRIDS[ndim]

    def first_shifted(at: Points) -> Points:
        return smooth_warp(at + np.array([4.0, -3.0, 2.0])[:ndim])

    fixed, moving = draw(grid, first_shifted), [draw(grid)]
    settings: dict[str, object] = {"iterations": (40, 30, 8), "update_sigma_vox": (2.0,)}
    (found,) = register("learned+svf", fixed, moving, model=knows(smooth_warp, grid, "none"), **settings)
    assert errors_mm(found, first_shifted).mean() < 0.8
    (added,) = register("learned+svf", fixed, moving, model=knows(smooth_warp, grid, "none"), iterations=(0,))
    assert errors_mm(added, first_shifted).mean() > 3


def test_an_alignment_that_is_asked_for_replaces_that_of_the_network() -> None:
    away = Image(draw(GRIDS[2]).data, GRIDS[2].cropped([9, 5], GRIDS[2].shape))
    model = PairModel(lambda fixed, moving: fixed.new_zeros(1, 2, *fixed.shape[2:]), None, "centre")
    (own,) = register("learned", draw(GRIDS[2]), [away], model=model)
    (asked,) = register("learned", draw(GRIDS[2]), [away], model=model, alignment="none")
    np.testing.assert_allclose(own.moving_from_fixed[:2, 2], away.grid.centre_ras, atol=1e-9)
    np.testing.assert_array_equal(asked.moving_from_fixed, np.eye(3))


def test_a_drive_by_mind_is_a_descent_on_its_descriptors() -> None:
    grid = GRIDS[2]
    fixed, moving, model = draw(grid, smooth_warp), [draw(grid)], knows(half_warp, grid, "none")
    (mind,) = register("learned+svf", fixed, moving, model=model, drive="mind")
    (same,) = register("learned+svf", fixed, moving, model=model, similarity="mind")
    (other,) = register("learned+svf", fixed, moving, model=model)
    assert errors_mm(mind, same.map).max() == 0
    assert errors_mm(mind, other.map).mean() > 0.05


def test_labels_drive_a_refinement_that_intensities_cannot() -> None:
    grid = GRIDS[3]
    flat = [Image(torch.full(grid.shape, 0.5), grid)]

    def labels(truth: Map) -> Tensor:
        where = truth(points(grid))
        left = (np.linalg.norm((where - [-8, 0, 0]) / [9, 14, 10], axis=-1) < 1).astype(float)
        right = (np.linalg.norm((where - [8, 0, 0]) / [9, 11, 12], axis=-1) < 1).astype(float)
        return torch.tensor(np.stack([1 - np.maximum(left, right), left, right])).float()

    still = PairModel(lambda fixed, moving: fixed.new_zeros(len(moving), 3, *grid.shape), None, "none")
    truth, own = labels(smooth_warp), labels(lambda at: at)

    def agreement(**settings: object) -> float:
        (found,) = register("learned+svf", flat[0], flat, model=still, iterations=(40, 20), **settings)
        moved = resample(Image(own[1], grid), grid, found).data
        return float(2 * (moved * truth[1]).sum() / (moved.sum() + truth[1].sum()))

    assert agreement() < 0.8
    assert agreement(drive="labels", fixed_labels=truth, moving_labels=[own]) > 0.89
    assert agreement(drive="labels", fixed_labels=truth, moving_labels=[own], label_loss="soft_dice") > 0.89
    assert agreement(drive="labels", fixed_labels=truth, moving_labels=[own], label_weight=0) == agreement()


def test_each_image_has_its_own_labels_however_many_are_registered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, other = GRIDS[2], turned((60, 72), (1.1, 0.9))
    still = PairModel(lambda fixed, moving: fixed.new_zeros(len(moving), 2, *fixed.shape[2:]), None, "none")
    disc = [torch.tensor(head(points(g) * s) > 0.5).float() for g, s in ((grid, 1.2), (other, 1.4), (grid, 1.7))]
    truth, *own = (torch.stack([1 - d, d]) for d in disc)
    images = [Image(torch.full(g.shape, 0.5), g) for g in (grid, other, grid)]
    settings = {"model": still, "drive": "labels", "fixed_labels": truth, "moving_labels": own}
    settings |= {"label_weight": 3.0, "iterations": (10, 6)}
    together = register("learned+svf", images[0], images[1:], **settings)  # type: ignore[arg-type]
    monkeypatch.setattr("covoxel.registration._BATCH_VOXELS", {"cpu": 1})
    apart = register("learned+svf", images[0], images[1:], **settings)  # type: ignore[arg-type]
    for one, two in zip(together, apart, strict=True):
        assert one.displacement_mm is not None
        assert two.displacement_mm is not None
        assert (one.displacement_mm - two.displacement_mm).abs().max() < 0.6
    assert errors_mm(apart[0], apart[1].map).max() > 2, "labels of one image must not do for the other"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_says_nan_is_named_with_the_image(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = GRIDS[2]
    monkeypatch.setattr("covoxel.registration._BATCH_VOXELS", {"cpu": 2 * grid.size})

    def spoilt(fixed: Tensor, moving: Tensor) -> Tensor:
        said = fixed.new_zeros(len(moving), 2, *grid.shape)
        said[:, 0, 3, 3] = torch.where(moving.amax((1, 2, 3)) > 1, torch.nan, 0.0)
        return said

    images = [Image(draw(grid).data * (2 if index == 3 else 1), grid) for index in range(5)]
    with pytest.raises(PairError, match="moving image 3: the network's displacement must be finite") as caught:
        run(engine, images[0], images, model=PairModel(spoilt))
    assert caught.value.index == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_smaller_than_the_strides_is_refused(engine: str) -> None:
    image = draw(Grid.from_spacing((40, 40, 12), 2.0))
    model = PairModel(lambda fixed, moving: fixed, 2.0, smallest_side=16)
    sentence = r"the image must have at least 16 voxels a side for this network, got 40 × 40 × 12 \(of 2 × 2 × 2 mm\)"
    with pytest.raises(ValueError, match=sentence):
        run(engine, image, [image], model=model)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_another_number_of_dimensions_is_refused(engine: str) -> None:
    with pytest.raises(ValueError, match="the network knows images of 3 dimensions, got one of 2"):
        run(engine, draw(GRIDS[2]), [draw(GRIDS[2])], model=PairModel(lambda f, m: f, (1.0, 1.0, 1.0)))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_device_without_room_for_two_pairs_takes_one_and_says_so_once(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    grid = GRIDS[2]
    known = knows(smooth_warp, grid, "none")

    def short_of_memory(fixed: Tensor, moving: Tensor) -> Tensor:
        if len(moving) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return known.displacement(fixed, moving)

    fixed, moving = draw(grid, smooth_warp), [draw(grid)] * 5
    plenty = run(engine, fixed, moving, model=known)
    short = run(engine, fixed, moving, model=PairModel(short_of_memory, alignment="none"))
    assert [record.message for record in caplog.records] == [
        "not enough memory for 5 pairs of this size at once: fewer are taken"
    ]
    for one, other in zip(plenty, short, strict=True):
        assert errors_mm(one, other.map).max() < 1e-3
