"""NIfTI files: what is written is read, nibabel agrees, and a bad file is refused in one sentence."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from covoxel.io import ImageError, read_header, read_image, read_labels, write_image, write_labels
from covoxel.spatial import Grid, Image

FLAT = Grid((5, 4), np.array([[0.0, -2.0, 7.0], [1.5, 0.0, -3.0], [0.0, 0.0, 1.0]]))


def image_on(grid: Grid) -> Image:
    return Image(torch.rand(grid.shape) * 100 - 50, grid)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_image_survives(grid: Grid, suffix: str, tmp_path: Path) -> None:
    image = image_on(grid)
    write_image(tmp_path / f"x{suffix}", image)
    read = read_image(tmp_path / f"x{suffix}")
    assert torch.equal(read.data, image.data)
    assert read.data.dtype == torch.float32
    assert read.data.is_contiguous()
    assert read.grid.isclose(grid, 1e-5)


@pytest.mark.parametrize("flat", [FLAT, Grid((1, 6), np.eye(3)), Grid((40000, 2), np.eye(3))])
def test_a_2d_image_survives(flat: Grid, tmp_path: Path) -> None:
    image = image_on(flat)
    write_image(tmp_path / "x.nii.gz", image)
    read = read_image(tmp_path / "x.nii.gz")
    assert torch.equal(read.data, image.data)
    assert read.grid.isclose(flat, 1e-5)
    assert read_header(tmp_path / "x.nii.gz").shape == flat.shape


def test_one_slice_stays_3d(tmp_path: Path) -> None:
    grid = Grid((5, 4, 1), np.diag([1.0, 1.0, 4.0, 1.0]))
    write_image(tmp_path / "x.nii.gz", image_on(grid))
    assert read_image(tmp_path / "x.nii.gz").grid.isclose(grid)


def test_a_sheared_grid_survives(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[0, 2], matrix[:3, 3] = 0.3, (1, 2, 3)
    grid = Grid((5, 4, 3), matrix)
    write_image(tmp_path / "x.nii", image_on(grid))
    assert read_image(tmp_path / "x.nii").grid.isclose(grid, 1e-5)


def test_nibabel_sees_the_same(grid: Grid, tmp_path: Path) -> None:
    image = image_on(grid)
    write_image(tmp_path / "x.nii.gz", image)
    seen: Any = nib.load(tmp_path / "x.nii.gz")
    assert np.array_equal(seen.get_fdata(dtype=np.float32), image.data.numpy())
    for matrix, code in (seen.get_sform(coded=True), seen.get_qform(coded=True)):
        assert code == 1
        assert np.abs(matrix - grid.ras_from_voxel).max() < 1e-4
    assert np.allclose(seen.header.get_zooms(), grid.spacing_mm)
    assert seen.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_same_image_gives_the_same_bytes(
    suffix: str, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_on(grid)
    write_image(tmp_path / f"x{suffix}", image)
    monkeypatch.setattr("time.time", lambda: 1.0)
    write_image(tmp_path / f"other_name{suffix}", image)
    assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"other_name{suffix}").read_bytes()


@given(low=st.integers(-(2**40), 2**40), span=st.integers(0, 2**20))
def test_labels_survive_in_the_smallest_type(tmp_path_factory: pytest.TempPathFactory, low: int, span: int) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.nii.gz"
    labels = Image(torch.tensor([[[low, low + span]]]), Grid((1, 1, 2), np.eye(4)))
    write_labels(path, labels)
    read = read_labels(path)
    assert read.data.dtype == torch.int64
    assert torch.equal(read.data, labels.data)
    names = ["uint8", "int16", "uint16", "int32", "uint32", "int64"]
    fitting = [n for n in names if np.iinfo(n).min <= low and low + span <= np.iinfo(n).max]
    assert read_header(path).dtype == fitting[0]


def test_whole_number_types_are_rounded_to_and_overflow_is_refused(tmp_path: Path) -> None:
    grid = Grid((3, 1), np.eye(3))
    write_image(tmp_path / "x.nii", Image(torch.tensor([[-1.6], [0.4], [2.5]]), grid), dtype="int16")
    assert read_image(tmp_path / "x.nii").data.flatten().tolist() == [-2, 0, 2]
    for wrong in (256.0, -1.0, float("nan")):
        with pytest.raises(ImageError, match="0 to 255"):
            write_image(tmp_path / "y.nii", Image(torch.full((3, 1), wrong), grid), dtype="uint8")
    with pytest.raises(ImageError, match="whole numbers"):
        write_labels(tmp_path / "y.nii", Image(torch.zeros(3, 1), grid))
    assert not (tmp_path / "y.nii").exists()


def nibabel_file(path: Path, values: np.ndarray, change: Callable[[Any], None] = lambda header: None) -> Path:
    """Write by nibabel, then change header fields in place, past its checks."""
    image = nib.Nifti1Image(values, np.diag([2.0, 1.0, 3.0, 1.0]))
    nib.save(image, path.with_suffix(".nii") if path.name.endswith(".gz") else path)
    plain = path.with_suffix(".nii") if path.name.endswith(".gz") else path
    content = plain.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    change(header)
    content = header.binaryblock + content[348:]
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def setting(**fields: Any) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        for name, value in fields.items():
            header[name] = value

    return change


def pixdim(axis: int, value: float) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        header["pixdim"][axis] = value

    return change


VOLUME = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    path = nibabel_file(tmp_path / "x.nii.gz", VOLUME, setting(scl_slope=0.5, scl_inter=-3))
    assert torch.equal(read_image(path).data, torch.from_numpy(VOLUME * 0.5 - 3).float())


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_no_slope_means_as_stored(slope: float, tmp_path: Path) -> None:
    path = nibabel_file(tmp_path / "x.nii.gz", VOLUME, setting(scl_slope=slope, scl_inter=9))
    assert torch.equal(read_image(path).data, torch.from_numpy(VOLUME).float())


def test_labels_stored_with_a_slope_are_read_and_others_refused(tmp_path: Path) -> None:
    path = nibabel_file(tmp_path / "x.nii.gz", VOLUME, setting(scl_slope=1.0000001, scl_inter=1))
    assert torch.equal(read_labels(path).data, torch.from_numpy(VOLUME).long() + 1)
    path = nibabel_file(tmp_path / "x.nii.gz", VOLUME, setting(scl_slope=0.5, scl_inter=0))
    with pytest.raises(ImageError, match=r"x\.nii\.gz holds the value 0\.5; .*whole numbers"):
        read_labels(path)
    path = nibabel_file(tmp_path / "nan.nii.gz", np.full((2, 2, 2), np.nan, np.float32))
    with pytest.raises(ImageError, match="holds the value nan"):
        read_labels(path)


@pytest.mark.parametrize(("code", "factor"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_lengths_become_millimetres(code: int, factor: float, tmp_path: Path) -> None:
    grid = read_image(nibabel_file(tmp_path / "x.nii", VOLUME, setting(xyzt_units=code))).grid
    assert np.allclose(grid.spacing_mm, np.array([2, 1, 3]) * factor)


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 4, 1, 1)])
def test_trailing_axes_of_one_are_dropped(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = nibabel_file(tmp_path / "x.nii", VOLUME.reshape(shape))
    assert read_image(path).grid.shape == read_header(path).shape == (2, 3, 4)


def test_big_endian_and_nifti2_are_read(tmp_path: Path) -> None:
    swapped = nib.Nifti1Image(VOLUME, np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(swapped, tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(VOLUME, np.eye(4)), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        assert torch.equal(read_image(tmp_path / name).data, torch.from_numpy(VOLUME).float())
        assert torch.equal(read_labels(tmp_path / name).data, torch.from_numpy(VOLUME).long())


def test_a_header_tells_what_the_image_will_be(tmp_path: Path) -> None:
    path = nibabel_file(tmp_path / "x.nii.gz", VOLUME)
    header = read_header(path)
    assert (header.shape, header.spacing_mm, header.dtype) == ((2, 3, 4), (2.0, 1.0, 3.0), "int16")
    assert header.grid is not None
    assert header.grid.isclose(read_image(path).grid)
    series = read_header(nibabel_file(tmp_path / "y.nii", np.zeros((2, 3, 4, 5), np.uint8)))
    assert (series.shape, series.spacing_mm, series.grid) == ((2, 3, 4, 5), (2.0, 1.0, 3.0), None)


BAD_HEADERS = {
    "spacing of 0": (pixdim(2, 0.0), "spacing 2, 0, 3 mm; every spacing must be positive"),
    "negative spacing": (pixdim(1, -2.0), "spacing -2, 1, 3 mm; every spacing must be positive"),
    "spacing NaN": (pixdim(3, np.nan), "spacing 2, 1, nan mm"),
    "spacing infinite": (pixdim(3, np.inf), "spacing 2, 1, inf mm"),
    "sform NaN": (setting(srow_x=[np.nan] * 4), "must be finite"),
    "sform singular": (setting(srow_x=[0, 1, 0, 0], srow_y=[0, 1, 0, 0]), "finite and invertible"),
    "quaternion impossible": (setting(sform_code=0, qform_code=1, quatern_b=3), "does not say where"),
    "no axes": (setting(dim=[0, 2, 3, 4, 1, 1, 1, 1]), "has 0 axes"),
    "one axis": (setting(dim=[1, 24, 1, 1, 1, 1, 1, 1]), "has 1 axes"),
    "side of 0": (setting(dim=[3, 2, 0, 4, 1, 1, 1, 1]), "(2, 0, 4); every side must be at least 1"),
    "side negative": (setting(dim=[3, 2, -3, 4, 1, 1, 1, 1]), "(2, -3, 4); every side"),
    "absurd size": (setting(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "at most 2147483648 voxels"),
    "more than is there": (setting(dim=[3, 2, 3, 5, 1, 1, 1, 1]), "truncated"),
    "type unknown": (setting(datatype=9999), "voxel type 9999"),
    "type complex": (setting(datatype=32, bitpix=64), "complex64; they must be real"),
    "type colour": (setting(datatype=128, bitpix=24), "must be real"),
    "offset in the header": (setting(vox_offset=100), "at byte 100"),
    "offset NaN": (setting(vox_offset=np.nan), "at byte nan"),
    "slope infinite": (setting(scl_slope=np.inf), "both must be finite"),
    "intercept NaN": (setting(scl_slope=1, scl_inter=np.nan), "both must be finite"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_bad_header_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    change, rule = BAD_HEADERS[name]
    refused(nibabel_file(tmp_path / f"x{suffix}", VOLUME, change), rule)


def refused(path: Path, rule: str) -> None:
    for read in (read_image, read_labels):
        with pytest.raises(ImageError) as caught:
            read(path)
        sentence = str(caught.value)
        assert str(path) in sentence
        assert rule in sentence
        assert "\n" not in sentence


def test_a_series_is_refused(tmp_path: Path) -> None:
    path = nibabel_file(tmp_path / "x.nii.gz", np.zeros((2, 3, 4, 5), np.uint8))
    refused(path, "(2, 3, 4, 5); an image must be one 2-D or 3-D volume")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(suffix: str, keep: float, tmp_path: Path) -> None:
    write_image(tmp_path / f"x{suffix}", image_on(Grid((20, 20, 20), np.eye(4))))
    content = (tmp_path / f"x{suffix}").read_bytes()
    (tmp_path / f"x{suffix}").write_bytes(content[: int(len(content) * keep) if keep >= 0 else -1])
    refused(tmp_path / f"x{suffix}", "x.nii")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    write_image(path, image_on(Grid((20, 20, 20), np.eye(4))))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(path, "must be intact")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), b"\x1f\x8b" + bytes(500)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_other_content_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    refused(tmp_path / f"x{suffix}", "must be")


def test_other_suffixes_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mnc").write_bytes(b"1")
    refused(tmp_path / "x.mnc", "'.mnc', a format that is not read; an image must end in .nii.gz, .nii, .hdr, .mgz")
    refused(tmp_path / "none.nii.gz", "does not exist")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "cannot be read")
    with pytest.raises(ImageError, match="an image is written to .nii or .nii.gz"):
        write_image(tmp_path / "x.img", image_on(FLAT))


def test_a_2d_image_outside_the_axial_plane_is_refused(tmp_path: Path) -> None:
    flat = setting(dim=[2, 2, 3, 1, 1, 1, 1, 1], srow_y=[0, 0, 1, 0], srow_z=[0, 1, 0, 0])
    refused(nibabel_file(tmp_path / "x.nii", VOLUME[..., :1], flat), "leaves the axial plane")


def test_the_real_brains_are_read_as_nibabel_reads_them(data_folder: Path) -> None:
    path = data_folder / "brain" / "oasis_T1w.nii.gz"
    seen: Any = nib.load(path)
    read = read_image(path)
    assert np.array_equal(read.data.numpy(), seen.get_fdata(dtype=np.float32))
    assert np.array_equal(read.grid.ras_from_voxel, seen.affine)
