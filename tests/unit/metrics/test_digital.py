"""Digital diffeomorphism: folds worked out by hand, and volumes by tetrahedra cut from cells."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from covoxel.metrics import digital_folding, folding
from covoxel.spatial import Grid, Transform


def moved_voxel(shape: tuple[int, ...], at: tuple[int, ...], by: tuple[float, ...]) -> Transform:
    """One voxel moves, all others stay."""
    u = torch.zeros(len(shape), *shape)
    u[(slice(None), *at)] = torch.tensor(by)
    return Transform(Grid.from_spacing(shape), np.eye(len(shape) + 1), u)


def test_the_identity_does_not_fold_and_the_border_is_not_asked(grid: Grid) -> None:
    result = digital_folding(Transform.identity(grid))
    assert (result.percent, result.volume_percent) == (0.0, 0.0)
    assert result.voxels == int(np.prod([side - 2 for side in grid.shape]))


def test_a_pixel_pushed_past_its_neighbour_folds_by_hand() -> None:
    """Pixel (2, 2) of 5 x 5 moves 1.5 along i, past (3, 2), which stays.

    Around (2, 2): forward along i the slope is 1 - 1.5 = -0.5, whatever j: two triangles of -0.5, folded.
    Backward it is 2.5. Around (3, 2) the two backward triangles have slope -0.5. Around (2, 1) and (2, 3) the
    difference along j towards (2, 2) tilts by 1.5 along i: determinants 1. Around (3, 1), (3, 3) nothing
    reads the pixel. So 2 of 9 pixels fold, and four triangles of area 0.25 count half each: 0.5 of 9.
    """
    result = digital_folding(moved_voxel((5, 5), (2, 2), (1.5, 0.0)))
    assert result.voxels == 9
    assert result.percent == pytest.approx(100 * 2 / 9)
    assert result.volume_percent == pytest.approx(100 * 0.5 / 9)


def test_a_voxel_pushed_past_its_neighbour_folds_by_hand() -> None:
    """As in the plane, with tetrahedra: four around (2, 2, 2) and four around (3, 2, 2), each -0.5 / 6.

    Those in the middle of a cell: at (2, 2, 2) the edges (1, 1, 0), (0, 1, 1), (1, 0, 1) all lose 1.5 along i:
    (-0.5, 1, 0), (-1.5, 1, 1), (-0.5, 0, 1) have the determinant 0.5, and the opposite ones 3.5: no fold. Elsewhere one
    edge of three changes by 1.5 along i, by 1.5 times a cofactor of 1 or -1: 0.5 or 3.5, no fold either.
    """
    result = digital_folding(moved_voxel((5, 5, 5), (2, 2, 2), (1.5, 0.0, 0.0)))
    assert result.voxels == 27
    assert result.percent == pytest.approx(100 * 2 / 27)
    assert result.volume_percent == pytest.approx(100 * 8 * 0.5 / 12 / 27)


def test_a_checkerboard_folds_although_central_differences_do_not_see_it() -> None:
    u = torch.zeros(3, 8, 8, 8)
    u[0, ::2] = 1.2
    transform = Transform(Grid.from_spacing((8, 8, 8)), np.eye(4), u)
    inner = torch.zeros(8, 8, 8, dtype=torch.bool)
    inner[1:-1, 1:-1, 1:-1] = True
    assert folding(transform, inner).percent == 0.0
    assert digital_folding(transform).percent == 100.0


def tetrahedra(points: np.ndarray) -> list[float]:
    """Signed volumes of one cell, `(2, 2, 2, 3)` corners, cut both ways into five tetrahedra."""
    corners = list(product((0, 1), repeat=3))
    volumes = []
    for parity in (0, 1):
        for corner in (c for c in corners if sum(c) % 2 == parity):
            edges = []
            for axis in range(3):
                other = tuple(1 - c if axis == a else c for a, c in enumerate(corner))
                edges.append((points[other] - points[corner]) * (1 if corner[axis] == 0 else -1))
            volumes.append(float(np.linalg.det(edges)) / 6)
        middle = [points[c] for c in corners if sum(c) % 2 != parity]
        straight = [np.array(c, float) for c in corners if sum(c) % 2 != parity]
        sign = np.sign(np.linalg.det([p - straight[0] for p in straight[1:]]))
        volumes.append(float(sign * np.linalg.det([p - middle[0] for p in middle[1:]])) / 6)
    return volumes


def random_field(shape: tuple[int, ...]) -> Tensor:
    return 0.6 * torch.randn(len(shape), *shape, generator=torch.Generator().manual_seed(4))


def test_the_volume_is_that_of_all_tetrahedra_of_the_cells_inside() -> None:
    """With a rim of voxels that stay, every folded tetrahedron is met at inner voxels, once."""
    shape = (7, 6, 8)
    u = torch.zeros(3, *shape)
    u[:, 2:-2, 2:-2, 2:-2] = 2 * random_field(shape)[:, 2:-2, 2:-2, 2:-2]
    points = np.stack(np.meshgrid(*[np.arange(side) for side in shape], indexing="ij"), -1) + u.movedim(0, -1).numpy()
    total = 0.0
    for i, j, k in np.ndindex(*[side - 1 for side in shape]):
        cell = tetrahedra(points[i : i + 2, j : j + 2, k : k + 2])
        total += sum(-volume for volume in cell if volume < 0) / 2
    result = digital_folding(Transform(Grid.from_spacing(shape), np.eye(4), u))
    assert total > 1
    assert result.volume_percent == pytest.approx(100 * total / result.voxels, rel=1e-5)


def test_the_volumes_of_the_identity_fill_the_cell() -> None:
    straight = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).astype(float)
    assert sum(tetrahedra(straight)) == pytest.approx(2), "both ways to cut it"
    mirrored = digital_folding(Transform(Grid.from_spacing((5, 5, 5)), np.diag([-1.0, 1.0, 1.0, 1.0])))
    assert (mirrored.percent, mirrored.volume_percent) == (100.0, pytest.approx(100.0))


def test_the_grid_does_not_matter(grid: Grid) -> None:
    """The same displacement in voxels, on a cube and on an oblique grid with flat voxels."""
    u = random_field(grid.shape)
    linear = torch.tensor(grid.ras_from_voxel[:3, :3], dtype=torch.float32)
    in_mm = torch.einsum("cd,d...->c...", linear, u)
    here = digital_folding(Transform(grid, np.eye(4), in_mm))
    straight = digital_folding(Transform(Grid.from_spacing(grid.shape), np.eye(4), u))
    assert here.percent > 10
    assert here.percent == pytest.approx(straight.percent, abs=0.1)
    assert here.volume_percent == pytest.approx(straight.volume_percent, rel=1e-4)


def test_a_mask_chooses_and_one_slice_is_a_plane() -> None:
    plane = moved_voxel((5, 5), (2, 2), (1.5, 0.0))
    row = torch.zeros(5, 5, dtype=torch.bool)
    row[2] = True
    assert digital_folding(plane, row).percent == pytest.approx(100 / 3)
    assert digital_folding(plane, row).volume_percent == pytest.approx(100 * 0.25 / 3)
    slice_ = moved_voxel((5, 5, 1), (2, 2, 0), (1.5, 0.0, 0.0))
    assert digital_folding(slice_) == digital_folding(plane)


def test_a_mask_of_another_grid_and_one_on_the_border_alone_are_refused() -> None:
    still = Transform.identity(Grid.from_spacing((5, 5)))
    with pytest.raises(ValueError, match="mask must be"):
        digital_folding(still, torch.ones(5, 4, dtype=torch.bool))
    border = torch.zeros(5, 5, dtype=torch.bool)
    border[0] = True
    with pytest.raises(ValueError, match="not on the border"):
        digital_folding(still, border)
    with pytest.raises(ValueError, match="not on the border"):
        digital_folding(Transform.identity(Grid.from_spacing((5, 2))))
