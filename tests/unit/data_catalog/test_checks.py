"""Every bad file gets one sentence that names file, value and rule; the others pass."""

import gzip
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_catalog import Case, CheckedCase, check_case, expected_ndim, find_duplicates, open_cohort

Scan = Callable[..., Path]


def _case(image: Path, label: Path | None = None) -> Case:
    return Case(image.name.split(".")[0], image, label, "unlabelled", "someone")


def _nifti(path: Path, data: np.ndarray) -> Path:
    nib.Nifti1Image(data, np.eye(4)).to_filename(path)
    return path


def test_a_good_case_has_no_reason(tmp_path: Path, scan: Scan, label: Scan) -> None:
    checked = check_case(_case(scan(tmp_path / "a.nii.gz", spacing_mm=1), label(tmp_path / "l.nii.gz")), {1, 2}, 3)
    assert checked.reason is None
    assert checked.shape == (7, 6, 5)
    assert checked.spacing_mm == (1.0, 1.0, 1.0)
    assert checked.label_values == (1, 2)
    assert len({checked.image_sha256, checked.label_sha256, checked.voxels_sha256, None}) == 4


def _truncated(folder: Path, scan: Scan) -> Path:
    whole = scan(folder / "whole.nii.gz", shape=(20, 20, 20)).read_bytes()
    (folder / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder / "a.nii.gz"


def _cut_short(folder: Path, scan: Scan) -> Path:
    whole = scan(folder / "whole.nii").read_bytes()
    (folder / "a.nii").write_bytes(whole[:600])
    return folder / "a.nii"


def _with_values(*wrong: float) -> Callable[[Path, Scan], Path]:
    def make(folder: Path, scan: Scan) -> Path:
        data = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
        data.flat[: len(wrong)] = wrong
        return _nifti(folder / "a.nii.gz", data)

    return make


def _spaced(spacing_mm: float) -> Callable[[Path, Scan], Path]:
    def make(folder: Path, scan: Scan) -> Path:
        content = bytearray(scan(folder / "a.nii").read_bytes())
        content[80:84] = struct.pack("<f", spacing_mm)  # pixdim[1]
        content[252:256] = struct.pack("<hh", 1, 0)  # the quaternion alone says where the voxels are
        (folder / "a.nii").write_bytes(content)
        return folder / "a.nii"

    return make


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_truncated, "a.nii.gz is truncated; a .gz file must be complete"),
        (
            _cut_short,
            "a.nii is truncated: its 600 bytes are fewer than the 1192 that its header announces",
        ),
        (
            lambda folder, scan: scan(folder / "a.nii.gz", shape=(7, 6)),
            "a.nii.gz: the file holds a 2-D image (7 × 6 voxels), but this cohort is 3-D",
        ),
        (
            lambda folder, scan: scan(folder / "a.nii.gz", shape=(7, 6, 1)),
            "a.nii.gz: the file holds a single slice (7 × 6 × 1 voxels), but this cohort is 3-D",
        ),
        (
            lambda folder, scan: _nifti(folder / "a.nii.gz", np.ones((4, 4, 4, 3), np.float32)),
            "a.nii.gz: the file holds a series of volumes (4 × 4 × 4 × 3); it must hold one single volume, so extract "
            "one",
        ),
        (
            _with_values(np.nan, np.inf),
            "a.nii.gz: 2 voxels are not a number (NaN or infinite); every voxel must have a value",
        ),
        (
            _with_values(np.nan),
            "a.nii.gz: 1 voxel is not a number (NaN or infinite); every voxel must have a value",
        ),
        (
            lambda folder, scan: _nifti(folder / "a.nii.gz", np.full((4, 4, 4), 7, np.int16)),
            "a.nii.gz: every voxel has the value 7; an image must show something",
        ),
        (_spaced(0.0), "a.nii has the voxel spacing 0, 1, 1 mm; every spacing must be positive and finite"),
        (_spaced(np.nan), "a.nii has the voxel spacing nan, 1, 1 mm; every spacing must be positive and finite"),
        (
            _spaced(40.0),
            "a.nii: the distance between voxels is 40 mm; it must be above 0 and at most 25 mm",
        ),
        (lambda folder, scan: folder / "a.nii.gz", "a.nii.gz does not exist; an image must be a file"),
    ],
    ids=[
        "truncated gz",
        "truncated",
        "2-D",
        "slice",
        "4-D",
        "nan and inf",
        "nan",
        "constant",
        "spacing 0",
        "spacing nan",
        "spacing huge",
        "missing",
    ],
)
def test_a_bad_image_gets_one_sentence(
    tmp_path: Path, scan: Scan, make: Callable[[Path, Scan], Path], sentence: str
) -> None:
    assert check_case(_case(make(tmp_path, scan)), None, 3).reason == sentence


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"values": ()},
            "l.nii.gz: the label is empty (all voxels are 0); it must mark at least one structure",
        ),
        (
            {"shape": (7, 6, 4)},
            "l.nii.gz: the label has 7 × 6 × 4 voxels but the image a.nii.gz has 7 × 6 × 5; both must have the same "
            "grid",
        ),
        (
            {"shift_mm": 0.5},
            "l.nii.gz: the label lies up to 0.5 mm away from the image a.nii.gz though both have as many voxels; "
            "position, orientation and voxel spacing in the two headers must agree",
        ),
        ({"values": (1, 7, 9)}, "l.nii.gz: the label holds the value 7; known values are 1, 2"),
    ],
    ids=["empty", "other shape", "other place", "unknown value"],
)
def test_a_bad_label_gets_one_sentence(
    tmp_path: Path, scan: Scan, label: Scan, wrong: dict[str, object], sentence: str
) -> None:
    case = _case(scan(tmp_path / "a.nii.gz"), label(tmp_path / "l.nii.gz", **wrong))
    assert check_case(case, {0, 1, 2}, 3).reason == sentence


def test_a_label_of_fractions_gets_one_sentence(tmp_path: Path, scan: Scan) -> None:
    halves = _nifti(tmp_path / "l.nii.gz", np.full((7, 6, 5), 0.5, np.float32))
    reason = check_case(_case(scan(tmp_path / "a.nii.gz"), halves), None, 3).reason
    assert reason == "l.nii.gz holds the value 0.5; a label map must hold whole numbers only"


def test_rounding_in_a_header_is_no_other_grid(tmp_path: Path, scan: Scan, label: Scan) -> None:
    case = _case(scan(tmp_path / "a.nii.gz"), label(tmp_path / "l.nii.gz", shift_mm=0.01))
    assert check_case(case, {1, 2}, 3).reason is None


def test_a_flipped_label_is_another_grid(tmp_path: Path, scan: Scan) -> None:
    flipped = nib.Nifti1Image(np.ones((7, 6, 5), np.uint8), np.diag([-1, 1, 1, 1]))
    flipped.to_filename(tmp_path / "l.nii.gz")
    reason = check_case(_case(scan(tmp_path / "a.nii.gz"), tmp_path / "l.nii.gz"), None, 3).reason
    assert reason is not None
    assert "position, orientation and voxel spacing" in reason


@pytest.mark.parametrize(
    ("values", "dtype", "sentence"),
    [
        ((1, -1), np.int16, "the label holds the value -1; label values must be whole numbers from 0 to 2147483647"),
        ((1, 255), np.int8, "the label holds the value -1; label values must be whole numbers from 0 to 2147483647"),
        ((1, -1000), np.float32, "the label holds the value -1000; label values must be"),
        ((1, 2**31), np.uint32, "the label holds the value 2147483648; label values must be"),
        ((1, 2**40), np.int64, "the label holds the value 1099511627776; label values must be"),
        ((1, 2**63), np.uint64, "l.nii.gz"),
        (tuple(range(1001)), np.int16, None),
        (tuple(range(1002)), np.int16, "the label holds 1001 different values; a label map must have at most 1000"),
        (tuple(np.arange(1, 1100) * 7), np.uint16, "so this is probably an image of intensities"),
        ((1, 0.5), np.float32, "holds the value 0.5; a label map must hold whole numbers only"),
        ((1, np.nan), np.float64, "a label map must hold whole numbers only"),
        ((1, 2**31 - 1), np.int32, None),
    ],
)
def test_label_values_that_a_later_stage_would_refuse_are_refused_here(
    tmp_path: Path, scan: Scan, values: tuple[float, ...], dtype: type, sentence: str | None
) -> None:
    data = np.zeros((12, 11, 10), dtype)
    data.flat[: len(values)] = np.array(values).astype(dtype)
    image = scan(tmp_path / "a.nii.gz", shape=data.shape)
    affine = nib.load(image).affine
    nib.Nifti1Image(data, affine, dtype=data.dtype).to_filename(tmp_path / "l.nii.gz")
    reason = check_case(_case(image, tmp_path / "l.nii.gz")).reason
    assert (reason is None) if sentence is None else (sentence in str(reason))
    assert reason is None or reason.startswith("l.nii.gz")


@pytest.mark.parametrize(("structure", "ignored", "sound"), [(10, 10, True), (10, 11, False), (0, 5, False)])
def test_an_atlas_that_is_mostly_to_be_ignored_is_none(
    tmp_path: Path, scan: Scan, label: Scan, structure: int, ignored: int, sound: bool
) -> None:
    label(tmp_path / "l.nii.gz", values=[1] * structure + [9] * ignored)
    checked = check_case(_case(scan(tmp_path / "a.nii.gz"), tmp_path / "l.nii.gz"), {1}, 3, 9)
    assert (checked.reason is None) == sound
    assert checked.label_values == ((1,) if sound else ())
    assert checked.holds_ignore == sound


def test_the_label_of_a_case_that_lost_it_is_not_read(cohort_folder: Path) -> None:
    (cohort_folder / "labels" / "b.nii.gz").write_bytes(b"nothing")
    cohort = open_cohort(cohort_folder)
    assert check_case(cohort.case("b")).reason is not None
    assert check_case(cohort.with_atlases(["a"]).case("b")).reason is None


def test_one_bad_case_leaves_the_others_alone(cohort_folder: Path) -> None:
    (cohort_folder / "images" / "b.nii.gz").write_bytes(gzip.compress(b"no image"))
    cohort = open_cohort(cohort_folder)
    ndim = expected_ndim(cohort)
    reasons = {case.id: check_case(case, {1, 2}, ndim).reason for case in cohort.cases}
    assert ndim == 3
    assert [case_id for case_id, reason in reasons.items() if reason] == ["b"]
    assert str(reasons["b"]).startswith("b.nii.gz is no NIfTI file")


def test_the_dimension_of_a_cohort_is_that_of_most_images(tmp_path: Path, scan: Scan) -> None:
    for name, shape in {"a": (7, 6), "b": (7, 6), "c": (7, 6, 5)}.items():
        scan(tmp_path / f"{name}.nii", shape=shape)
    cohort = open_cohort(tmp_path)
    assert expected_ndim(cohort) == 2
    assert expected_ndim(cohort.select(["a", "c"])) == 3
    assert expected_ndim(cohort.select([])) is None
    assert [check_case(case, None, 2).reason is None for case in cohort.cases] == [True, True, False]


def _checked(folder: Path) -> list[CheckedCase]:
    return [check_case(case) for case in open_cohort(folder).cases]


def test_two_files_with_one_content_are_one_image(tmp_path: Path, scan: Scan) -> None:
    first = scan(tmp_path / "a.nii.gz")
    scan(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii").write_bytes(gzip.decompress(first.read_bytes()))
    assert find_duplicates(_checked(tmp_path)) == {
        "c": "c.nii: the image is the same as that of case a (a.nii.gz); each image may be in the cohort once"
    }


def test_of_two_copies_the_atlas_stays(cohort_folder: Path) -> None:
    shutil.copy(cohort_folder / "images" / "d.nii.gz", cohort_folder / "images" / "c.nii.gz")
    shutil.copy(cohort_folder / "images" / "d.nii.gz", cohort_folder / "images" / "a.nii.gz")
    checked = [check_case(case) for case in open_cohort(cohort_folder).with_atlases(["c"]).cases]
    assert sorted(find_duplicates(checked)) == ["a", "d"]


@pytest.mark.parametrize(
    ("original", "copy"),
    [("a", "a-copy"), ("scan.1", "Copy-of-scan.1"), ("b", "a-b"), ("sub-01", "sub-01+2"), ("x1", "x2")],
)
def test_of_two_copies_the_original_stays(tmp_path: Path, scan: Scan, original: str, copy: str) -> None:
    scan(tmp_path / f"{original}.nii.gz", seed=1)
    shutil.copy(tmp_path / f"{original}.nii.gz", tmp_path / f"{copy}.nii.gz")
    assert list(find_duplicates(_checked(tmp_path))) == [copy]
    cohort = open_cohort(tmp_path)
    with_label = [replace(case, label=case.image) for case in cohort.cases]
    atlas_first = replace(cohort, cases=tuple(with_label)).with_atlases([copy])
    checked = [CheckedCase(case, voxels_sha256="x") for case in atlas_first.cases]
    assert list(find_duplicates(checked)) == [original]


def test_bad_files_are_not_counted_as_copies(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "a.nii.gz", seed=1)
    scan(tmp_path / "b.nii.gz", seed=1)
    checked = _checked(tmp_path)
    assert list(find_duplicates(checked)) == ["b"]
    assert find_duplicates([replace(checked[0], reason="bad"), checked[1]]) == {}


def test_real_images_are_good(data_folder: Path) -> None:
    cohort = open_cohort(data_folder / "hippocampus")
    some = cohort.select([case.id for case in cohort.cases[:12]])
    checked = [check_case(case, {1, 2}, expected_ndim(some)) for case in some.cases]
    assert [item.reason for item in checked] == [None] * 12
    assert find_duplicates(checked) == {}
