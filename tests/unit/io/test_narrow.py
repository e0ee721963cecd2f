"""Stored values become float32 without losing grey levels, and values near 0 stay as they are."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from covoxel.io import ImageError, read_image
from covoxel.io.narrow import is_safe, narrowed

SHAPE = (12, 14, 10)
RAMP = np.linspace(0, 100, 1680).reshape(SHAPE)
STEPS = np.arange(1680).reshape(SHAPE)


def read(path: Path, values: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    header: Any = nib.Nifti1Header()
    image = nib.Nifti1Image(values, np.eye(4), header, dtype=values.dtype)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(content)
    return read_image(path).data.numpy()


@pytest.mark.parametrize(
    "values",
    [
        RAMP - 1e9,
        RAMP * 1e-3 + 1e5,
        RAMP * 1e-12 + 1,
        np.where(STEPS % 4 == 0, 0, RAMP + 1e9),  # a background of 0 around it
        np.where(STEPS % 40 == 0, -8e9, np.where(STEPS % 40 == 1, 8e9, RAMP + 1e9)),  # outliers on both sides
        RAMP * 1e25 + 1e40,
        STEPS.astype(np.int32) + (2**31 - 2000),
        STEPS.astype(np.uint32) + np.uint32(4_000_000_000),
        STEPS.astype(np.int64) - 2**60,
        STEPS.astype(np.uint64) + np.uint64(2**63 + 5),
    ],
    ids=["far below", "fine steps", "near 1", "background", "outliers", "huge", "int32", "uint32", "int64", "uint64"],
)
def test_grey_levels_survive_an_offset(values: np.ndarray, tmp_path: Path) -> None:
    read_values = read(tmp_path / "x.nii", values)
    order = np.argsort(values, axis=None)
    assert len(np.unique(read_values)) >= 0.99 * len(np.unique(values))
    assert (np.diff(read_values.ravel()[order]) >= 0).all()


def test_the_offset_is_a_value_of_the_file_and_differences_are_kept(tmp_path: Path) -> None:
    values = read(tmp_path / "x.nii", STEPS.astype(np.int64) * 3 + 2**50)
    assert np.array_equal(values - values.min(), STEPS * 3.0)
    assert values.min() <= 0 <= values.max()


def test_a_large_intercept_keeps_the_levels_of_a_small_slope(tmp_path: Path) -> None:
    values = read(tmp_path / "x.nii", STEPS.astype(np.int16), slope=0.001, intercept=1e6)
    assert len(np.unique(values)) == 1680
    assert np.allclose(values - values.flat[0], STEPS * 0.001, atol=1e-4)


@pytest.mark.parametrize(
    "values",
    [
        RAMP * 40 - 1024,  # Hounsfield units
        RAMP + 1000,
        STEPS.astype(np.int32) - 1024,
        STEPS.astype(np.int64) * 10_000,
        np.where(STEPS < 5, -1e30, RAMP),
        np.array([0.0, 1.0 - 1e-12, 1.0] * 560).reshape(SHAPE),  # noise of arithmetic
        np.full(SHAPE, 1e9),
        np.linspace(1000, 1000.2, 64000).reshape(40, 40, 40),  # 3,000 levels are enough
        np.where(STEPS % 3 == 1, STEPS % 5, STEPS % 10) * 1e-3
        + (STEPS % 3 - 1) * 1e7,  # three groups: an offset would save one and merge another
    ],
    ids=["HU", "1000", "int32", "int64", "outlier", "noise", "constant", "enough", "groups"],
)
def test_ordinary_values_are_not_moved(values: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(read(tmp_path / "x.nii", values), values.astype(np.float32))


@pytest.mark.parametrize("few", [[2**30, 2**30 + 1], [0, 2**30, 2**30 + 1]])
def test_few_whole_numbers_are_kept_apart(few: list[int], tmp_path: Path) -> None:
    values = np.array(few, np.int32)[STEPS % len(few)]
    assert len(np.unique(read(tmp_path / "x.nii", values))) == len(few)


def test_not_a_number_stays_so_beside_an_offset(tmp_path: Path) -> None:
    values = RAMP + 1e9
    values[0, 0, :2] = np.nan, np.inf
    read_values = read(tmp_path / "x.nii", values)
    assert np.isnan(read_values[0, 0, 0])
    assert np.isinf(read_values[0, 0, 1])
    assert len(np.unique(read_values)) > 1600
    assert np.isnan(read(tmp_path / "y.nii", np.full(SHAPE, np.nan))).all()


def test_what_float32_cannot_hold_is_refused_in_the_right_words(tmp_path: Path) -> None:
    for name, values, rule in (
        ("a", RAMP * 1e38, r"a\.nii holds values from 0 to 1e\+40; intensities must lie within ±3\.4e\+38"),
        ("b", -RAMP * 1e299, r"from -1e\+301 to -?0"),
        ("c", np.full(SHAPE, 1e39), "from 1e.39 to 1e.39"),
        ("d", RAMP * 1e-42, "c?span 1e-40 only; they must span at least 1e-30"),
    ):
        with pytest.raises(ImageError, match=rule):
            read(tmp_path / f"{name}.nii", values)
    with pytest.raises(ImageError, match="intensities must lie within"):
        read(tmp_path / "e.nii", STEPS.astype(np.int16), slope=3e38)


def test_what_is_safe_is_read_without_looking_at_the_values() -> None:
    assert is_safe(np.dtype("i2"), 1.0, 0.0)
    assert is_safe(np.dtype("u2"), 0.5, -1024.0)
    assert is_safe(np.dtype("f4"), 1.0, 0.0)
    for dtype, slope, intercept in (("i4", 1, 0), ("f8", 1, 0), ("i2", 1e-3, 1e6), ("i2", 1e35, 0), ("f4", 2, 0)):
        assert not is_safe(np.dtype(dtype), slope, intercept)


def test_a_narrowed_view_is_c_contiguous() -> None:
    values = narrowed(Path("x"), np.asfortranarray(RAMP + 1e9))
    assert values.flags.c_contiguous
