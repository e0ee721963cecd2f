"""Two statements of one header about the place of its voxels must agree."""

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from covoxel.io import ImageError, read_header, read_image, read_labels

VALUES = np.arange(12 * 14 * 10, dtype=np.int16).reshape(12, 14, 10)
TURNED = from_matvec(Rotation.from_euler("xyz", [20, -30, 50], degrees=True).as_matrix() * [1, 1.5, 2], [5, -7, 30])


def save(path: Path, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int] = (1, 2), qfac: Any = None) -> Path:
    image: Any = nib.Nifti1Image(VALUES, None)
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    nib.save(image, path)
    if qfac is not None:
        content = bytearray(path.read_bytes())
        content[76:80] = np.array([qfac], "<f4").tobytes()
        path.write_bytes(content)
    return path


def moved(matrix: np.ndarray, shift: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[1, 3] += shift
    return matrix


@pytest.mark.parametrize(
    ("qform", "apart"),
    [
        (moved(TURNED, 12.0), "12 mm"),
        (np.diag([-1, 1, 1, 1.0]) @ TURNED, "mm"),  # left and right exchanged
        (TURNED @ np.diag([1, 1.2, 1, 1]), "3.9 mm"),  # 13 steps of 1.5 mm, a fifth longer
        (moved(TURNED, 1.2), "1.2 mm"),
    ],
    ids=["shift", "mirror", "spacing", "just above a voxel"],
)
def test_a_header_that_contradicts_itself_is_refused(qform: np.ndarray, apart: str, tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", qform, TURNED)
    for read in (read_header, read_image, read_labels):
        with pytest.raises(ImageError, match=rf"qform \(code 1\) and an sform \(code 2\).* up to .*{apart} apart"):
            read(path)


def test_a_small_distance_is_noted_and_the_sform_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        grid = read_image(save(tmp_path / "x.nii", moved(TURNED, 0.4), TURNED)).grid
        assert "0.4 mm apart; the sform is used" in caplog.text
        caplog.clear()
        read_image(save(tmp_path / "y.nii", moved(TURNED, 0.04), TURNED))
        assert not caplog.text
    assert np.allclose(grid.ras_from_voxel, TURNED, atol=1e-5)


@pytest.mark.parametrize("codes", [(0, 1), (1, 0)])
def test_one_statement_alone_is_not_contradicted(codes: tuple[int, int], tmp_path: Path) -> None:
    grid = read_image(save(tmp_path / "x.nii", moved(TURNED, 50), TURNED, codes)).grid
    assert np.allclose(grid.ras_from_voxel, TURNED if codes[1] else moved(TURNED, 50), atol=1e-5)


def test_a_sheared_sform_is_normal_beside_the_qform_without_shear(tmp_path: Path) -> None:
    sheared = TURNED.copy()
    sheared[:3, 2] += 0.4 * sheared[:3, 1]  # a tilted gantry, 5 mm at the far end
    grid = read_image(save(tmp_path / "x.nii", sheared, sheared)).grid
    assert np.allclose(grid.ras_from_voxel, sheared, atol=1e-5)
    with pytest.raises(ImageError, match="30 mm apart"):
        read_image(save(tmp_path / "y.nii", moved(sheared, 30), sheared))


@pytest.mark.parametrize("qfac", [0.0, np.nan, 3.0])
def test_a_qfac_that_is_not_negative_counts_as_1(qfac: float, tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", TURNED, TURNED, (1, 0), qfac)
    assert np.allclose(read_image(path).grid.ras_from_voxel, TURNED, atol=1e-5)
    assert read_image(save(tmp_path / "y.nii", TURNED, TURNED, (1, 1), qfac)).grid.shape == VALUES.shape
    left = TURNED @ np.diag([1, 1, -1, 1])
    assert np.allclose(read_image(save(tmp_path / "z.nii", left, left, (1, 0))).grid.ras_from_voxel, left, atol=1e-5)


def test_an_impossible_qform_beside_an_sform_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "x.nii", TURNED, TURNED)
    content = bytearray(path.read_bytes())
    content[256:260] = np.array([3], "<f4").tobytes()  # quatern_b
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert np.allclose(read_image(path).grid.ras_from_voxel, TURNED, atol=1e-5)
    assert "the qform is not valid" in caplog.text


def test_without_any_statement_the_first_axis_points_left(tmp_path: Path) -> None:
    image: Any = nib.Nifti1Image(VALUES, None)
    image.header.set_zooms((2, 1, 3))
    nib.save(image, tmp_path / "x.nii")
    grid = read_image(tmp_path / "x.nii").grid
    assert np.array_equal(grid.ras_from_voxel[:3, :3], np.diag([-2, 1, 3]))
    assert np.allclose(grid.to_ras((np.array(VALUES.shape) - 1) / 2), 0)


def test_real_headers_are_not_refused(data_folder: Path) -> None:
    files = sorted(
        file for kind in ("brain", "ct", "mouse", "ms", "oasis35") for file in (data_folder / kind).rglob("*.nii.gz")
    )
    assert len(files) > 60
    for file in files:
        read_header(file)
