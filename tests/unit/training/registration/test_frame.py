"""Frame: the smallest that holds all, and images on it where they belong, with their labels."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from covoxel.spatial import Grid, Image
from covoxel.training.registration import Frame, frame_of, prepare


def image_of(shape: tuple[int, ...], spacing: object = 1.0) -> Image:
    generator = torch.Generator().manual_seed(0)
    return Image(torch.rand(shape, generator=generator), Grid.from_spacing(shape, spacing))  # type: ignore[arg-type]


def linear(grid: Grid, slope: np.ndarray) -> Image:
    """A phantom whose value is `slope · RAS`."""
    voxels = np.stack(np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij"), -1)
    return Image(torch.as_tensor(grid.to_ras(voxels) @ slope).float(), grid)


def test_its_sides_are_the_median_ones_in_multiples_of_four_at_the_median_spacing() -> None:
    images = [image_of((35, 50), 1.0), image_of((36, 20), 1.0), image_of((10, 10), (2.0, 1.0))]
    assert frame_of(images) == Frame((36, 20), (1.0, 1.0))
    assert frame_of(images, 2.0) == Frame((20, 12), (2.0, 2.0))
    assert frame_of(images[:1], (0.5, 1.0)).shape == (72, 52)


def test_axes_are_those_of_the_world() -> None:
    turned = np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert frame_of([Image(torch.zeros(8, 20), Grid((8, 20), turned))]) == Frame((20, 8), (2.0, 1.0))


def test_what_cannot_be_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="all 2-D or all 3-D"):
        frame_of([image_of((4, 4)), image_of((4, 4, 4))])
    with pytest.raises(ValueError, match="needs images"):
        frame_of([])
    with pytest.raises(ValueError, match=r"400 x 400 x 400 voxels, more than .* larger spacing_mm than \[0.1"):
        frame_of([image_of((40, 40, 40))], 0.1)
    with pytest.raises(ValueError, match="must be positive"):
        Frame((4, 0), (1.0, 1.0))


@pytest.mark.parametrize("shape", [(7, 10), (8, 12), (13, 3)])
def test_an_image_of_the_same_spacing_keeps_its_voxels(shape: tuple[int, int]) -> None:
    """Centre on centre, half a voxel off at most; smaller sides are continued, larger ones cut."""
    image, frame = image_of(shape), Frame((12, 12), (1.0, 1.0))
    labels = Image((image.data > 0.5).long(), image.grid)
    case = prepare("a", image, frame, labels=labels, subject="s")
    assert case.subject == "s"
    seen = case.mask.nonzero()
    sides = (seen.amax(0) - seen.amin(0) + 1).tolist()
    assert sides == [min(12, side) for side in shape]
    first = [-(-(side - 12) // 2) if side > 12 else 0 for side in shape]
    kept = image.data[first[0] : first[0] + 12, first[1] : first[1] + 12]
    assert_close(case.image[case.mask], kept.reshape(-1))
    assert case.labels is not None
    assert torch.equal(case.labels[case.mask], (kept > 0.5).long().reshape(-1))
    assert not case.labels[~case.mask].any()
    middle = seen.float().mean(0)
    assert (middle - 5.5).abs().max() <= 0.5
    if shape[0] < 12:
        assert torch.equal(case.image[0], case.image[int(seen.amin(0)[0])])


def test_another_spacing_is_interpolated_in_the_right_place(grid: Grid) -> None:
    """On all orientations: along the frame's axis d the phantom grows by that of the image's canonical axis d."""
    slope = np.array([0.02, -0.01, 0.03])
    frame = Frame((12, 12, 12), (1.3, 1.6, 2.2))
    case = prepare("a", linear(grid, slope), frame)
    centre = float(grid.centre_ras @ slope)
    inner = case.image[4:8, 4:8, 4:8]
    assert float(inner.mean()) == pytest.approx(centre, abs=1e-3)
    from covoxel.preprocessing import canonical_grid

    axes = canonical_grid(grid).ras_from_voxel[:3, :3] / canonical_grid(grid).spacing_mm
    for axis, spacing in enumerate(frame.spacing_mm):
        assert float(inner.diff(dim=axis).mean()) == pytest.approx(spacing * float(axes[:, axis] @ slope), abs=1e-4)


def test_through_an_affine_every_voxel_shows_its_point_of_the_image(grid: Grid) -> None:
    slope = np.array([0.02, -0.01, 0.03])
    matrix = np.array([[1.1, 0.1, 0, 2], [-0.1, 0.9, 0.05, -1], [0, 0, 1.05, 0.5], [0, 0, 0, 1]])
    frame = Frame((5, 6, 4), (1.0, 1.5, 1.2), tuple(grid.centre_ras.tolist()))
    wide = grid.cropped([-20, -20, -20], tuple(side + 40 for side in grid.shape))
    case = prepare("a", linear(wide, slope), frame, moving_from_fixed=matrix)
    points = frame.world.to_ras(np.stack(np.meshgrid(*[np.arange(s) for s in frame.shape], indexing="ij"), -1))
    assert_close(frame.world.centre_ras, grid.centre_ras)
    expected = (points @ matrix[:3, :3].T + matrix[:3, 3]) @ slope
    assert case.mask.all()
    assert_close(case.image, torch.as_tensor(expected).float(), atol=1e-4, rtol=1e-4)


def test_coarser_voxels_do_not_alias() -> None:
    stripes = torch.zeros(64, 8)
    stripes[::2] = 1
    case = prepare("a", Image(stripes, Grid.from_spacing((64, 8))), Frame((16, 4), (4.0, 2.0)))
    assert (case.image[2:-2] - 0.5).abs().max() < 0.05


def test_labels_follow_the_larger_share() -> None:
    labels = torch.zeros(16, 16, dtype=torch.int64)
    labels[:8], labels[8:] = 1, 3
    image = image_of((16, 16))
    case = prepare("a", image, Frame((8, 8), (2.0, 2.0)), labels=Image(labels, image.grid))
    assert case.labels is not None
    assert case.labels[:4].eq(1).all()
    assert case.labels[4:].eq(3).all()


def test_what_does_not_fit_is_refused_by_name() -> None:
    image, frame = image_of((8, 8)), Frame((8, 8), (1.0, 1.0))
    with pytest.raises(ValueError, match="case a: a 2-D image has no place"):
        prepare("a", image, Frame((8, 8, 8), (1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="case a: labels must lie on the grid"):
        prepare("a", image, frame, labels=Image(torch.zeros(7, 8), Grid.from_spacing((7, 8))))
    far = np.eye(3)
    far[0, 2] = 100
    with pytest.raises(ValueError, match="case a: no voxel"):
        prepare("a", image, frame, moving_from_fixed=far)
