"""Transform files: what is written is read, the same bytes each time, and damage is refused."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from covoxel.io import (
    ImageError,
    read_affine,
    read_displacement,
    read_transform,
    transform_file,
    write_affine,
    write_displacement,
    write_image,
    write_transform,
)
from covoxel.spatial import Grid, Image, Transform

FLAT = Grid((6, 5), np.array([[0.0, -2.0, 7.0], [1.5, 0.0, -3.0], [0.0, 0.0, 1.0]]))
STEP_MM = 2.0**-13


def affine(n: int) -> np.ndarray:
    matrix = np.eye(n + 1)
    matrix[:n] += torch.rand(n, n + 1).double().numpy() * 0.3
    return matrix


def warped(grid: Grid) -> Transform:
    return Transform(grid, affine(grid.ndim), torch.randn(grid.ndim, *grid.shape) * 5)


def test_a_transform_survives(grid: Grid, tmp_path: Path) -> None:
    for on in (grid, FLAT):
        transform = warped(on)
        write_transform(tmp_path / "x.h5", transform)
        read = read_transform(tmp_path / "x.h5")
        assert transform.displacement_mm is not None
        assert read.displacement_mm is not None
        assert read.grid.isclose(on, 1e-9)
        assert np.abs(read.moving_from_fixed - transform.moving_from_fixed).max() < 1e-12
        assert (read.displacement_mm - transform.displacement_mm).abs().max() <= STEP_MM / 2
        write_transform(tmp_path / "y.h5", Transform(on, transform.moving_from_fixed, read.displacement_mm))
        again = read_transform(tmp_path / "y.h5", on)
        assert again.grid is on
        assert torch.equal(again.displacement_mm, read.displacement_mm)


def test_an_affine_transform_survives_and_needs_its_grid(grid: Grid, tmp_path: Path) -> None:
    for on in (grid, FLAT):
        transform = Transform(on, affine(on.ndim))
        write_transform(tmp_path / "x.h5", transform)
        read = read_transform(tmp_path / "x.h5", on)
        assert read.displacement_mm is None
        assert np.abs(read.moving_from_fixed - transform.moving_from_fixed).max() < 1e-12
        with pytest.raises(ValueError, match=r"x\.h5 does not hold the grid"):
            read_transform(tmp_path / "x.h5")
    with pytest.raises(ValueError, match="2-D transform; it must have the 3 dimensions"):
        read_transform(tmp_path / "x.h5", grid)


def test_a_sheared_grid_and_a_grid_of_one_slice_survive(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[0, 2] = 0.3
    for on in (Grid((5, 4, 3), matrix), Grid((5, 4, 1), np.diag([1.0, 1.0, 4.0, 1.0]))):
        write_transform(tmp_path / "x.h5", warped(on))
        assert read_transform(tmp_path / "x.h5").grid.isclose(on, 1e-9)


def test_the_same_transform_gives_the_same_bytes(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = warped(grid)
    assert transform.displacement_mm is not None
    for name, seconds in (("x", 1.0), ("other_name", 2e9)):
        monkeypatch.setattr("time.time", lambda seconds=seconds: seconds)
        write_transform(tmp_path / f"{name}.h5", transform)
        write_affine(tmp_path / f"{name}.mat", transform.moving_from_fixed)
        write_displacement(tmp_path / f"{name}.nii.gz", transform.displacement_mm, grid)
    for suffix in ("h5", "mat", "nii.gz"):
        assert (tmp_path / f"x.{suffix}").read_bytes() == (tmp_path / f"other_name.{suffix}").read_bytes()


def test_no_time_is_kept_in_the_file(grid: Grid, tmp_path: Path) -> None:
    write_transform(tmp_path / "x.h5", warped(grid))
    seen: list[int] = []
    with h5py.File(tmp_path / "x.h5") as h5:
        h5.visititems(lambda _, item: seen.append(h5py.h5o.get_info(item.id).mtime))
    assert len(seen) > 10
    assert set(seen) == {0}


def test_a_smooth_displacement_takes_less_room_than_its_floats(tmp_path: Path) -> None:
    grid = Grid((40, 40, 40), np.eye(4))
    rough = torch.randn(1, 3, 6, 6, 6) * 5
    field = torch.nn.functional.interpolate(rough, grid.shape, mode="trilinear", align_corners=True)[0]
    write_transform(tmp_path / "x.h5", Transform(grid, np.eye(4), field))
    assert (tmp_path / "x.h5").stat().st_size < 0.65 * field.numel() * 4


def test_an_affine_file_survives(tmp_path: Path) -> None:
    for n in (2, 3):
        matrix = affine(n)
        write_affine(tmp_path / "x.mat", matrix)
        assert np.abs(read_affine(tmp_path / "x.mat") - matrix).max() < 1e-12


def test_a_displacement_file_survives(grid: Grid, tmp_path: Path) -> None:
    for on in (grid, FLAT, Grid((5, 4, 1), np.eye(4))):
        displacement_mm = torch.randn(on.ndim, *on.shape)
        write_displacement(tmp_path / "x.nii.gz", displacement_mm, on)
        read, read_grid = read_displacement(tmp_path / "x.nii.gz")
        assert torch.equal(read, displacement_mm)
        assert read_grid.isclose(on, 1e-5)


def test_an_image_is_no_displacement_and_a_warp_is_no_affine(grid: Grid, tmp_path: Path) -> None:
    write_image(tmp_path / "x.nii.gz", Image(torch.zeros(grid.shape), grid))
    with pytest.raises(ImageError, match=r"x\.nii\.gz has the shape"):
        read_displacement(tmp_path / "x.nii.gz")
    write_transform(tmp_path / "x.h5", warped(grid))
    with pytest.raises(ValueError, match=r"x\.h5 holds a CompositeTransform; an affine must"):
        read_affine(tmp_path / "x.h5")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_displacement_that_is_not_finite_is_neither_written_nor_read(wrong: float, tmp_path: Path) -> None:
    transform = warped(FLAT)
    assert transform.displacement_mm is not None
    write_transform(tmp_path / "x.h5", transform)
    with h5py.File(tmp_path / "x.h5", "r+") as h5:
        h5["TransformGroup/2/TransformParameters"][3] = wrong
    with pytest.raises(ValueError, match=r"x\.h5 holds displacements that are not finite"):
        read_transform(tmp_path / "x.h5")
    transform.displacement_mm[0, 0, 0] = wrong
    with pytest.raises(ValueError, match="finite"):
        write_transform(tmp_path / "y.h5", transform)
    assert not (tmp_path / "y.h5").exists()


def test_a_singular_matrix_is_refused(tmp_path: Path) -> None:
    write_affine(tmp_path / "x.mat", np.diag([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match=r"x\.mat holds the matrix .* invertible"):
        read_affine(tmp_path / "x.mat")


def test_a_grid_larger_than_its_field_is_refused_before_room_is_made_for_it(grid: Grid, tmp_path: Path) -> None:
    write_transform(tmp_path / "x.h5", warped(grid))
    with h5py.File(tmp_path / "x.h5", "r+") as h5:
        h5["TransformGroup/2/TransformFixedParameters"][:3] = 1e5
    with pytest.raises(ValueError, match=r"x\.h5 must be .* 3e\+15 numbers is announced"):
        read_transform(tmp_path / "x.h5")


def test_a_matrix_larger_than_its_file_is_refused_before_room_is_made_for_it(tmp_path: Path) -> None:
    write_affine(tmp_path / "x.mat", np.eye(4))
    content = bytearray((tmp_path / "x.mat").read_bytes())
    content[4:8] = (2**30).to_bytes(4, "little")  # rows of the first matrix, in MATLAB's version 4
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.mat must be an intact ITK transform file: .*1073741824"):
        read_affine(tmp_path / "x.mat")


@pytest.mark.parametrize("suffix", [".h5", ".mat", ".tfm"])
@pytest.mark.parametrize("content", [b"", b"hello", bytes(3000), b"\x89HDF\r\n\x1a\n"])
def test_other_content_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match="must be an intact ITK transform file"):
        read_transform(tmp_path / f"x{suffix}", FLAT)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_transform_is_refused(keep: float, grid: Grid, tmp_path: Path) -> None:
    write_transform(tmp_path / "x.h5", warped(grid))
    content = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "x.h5").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match="must be an intact ITK transform file"):
        read_transform(tmp_path / "x.h5")


def test_missing_files_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_transform(tmp_path / "none.h5")
    with pytest.raises(ValueError, match=r"must end in \.h5, got '\.mat'"):
        write_transform(tmp_path / "x.mat", warped(FLAT))
    with pytest.raises(ValueError, match=r"must end in \.mat, got '\.txt'"):
        write_affine(tmp_path / "x.txt", np.eye(4))
    with pytest.raises(ValueError, match="displacement_mm must be"):
        write_displacement(tmp_path / "x.nii.gz", torch.zeros(3, 4, 4), FLAT)


def test_itk_is_asked_by_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_transform(tmp_path / "x.h5", warped(FLAT))
    read, inside, most = transform_file.sitk.ReadTransform, [], []

    def counted(path: str) -> object:
        inside.append(path)
        time.sleep(0.01)  # others have the time to come in
        most.append(len(inside))
        inside.pop()
        return read(path)

    monkeypatch.setattr(transform_file.sitk, "ReadTransform", counted)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read_transform, [tmp_path / "x.h5"] * 8))) == 8
    assert most == [1] * 8
