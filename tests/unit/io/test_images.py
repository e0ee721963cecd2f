"""Images of every format that is read: where nibabel and ITK see them, within memory, and refused in one sentence."""

import gzip
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from covoxel.io import ImageError, image_files, read_header, read_image, read_labels, sha256_file, sha256_image

VALUES = np.random.default_rng(0).integers(0, 200, (6, 5, 4)).astype(np.int16)
MATRIX = np.eye(4)
MATRIX[:3, :3] = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix() * [1, 1.5, 2]
MATRIX[:3, 3] = -20, 3, 7

Write = Callable[[Path], Path]


def by_nibabel(kind: Any, name: str, dtype: str = "int16") -> Write:
    def write(folder: Path) -> Path:
        plain = folder / name.lower()
        nib.save(kind(VALUES.astype(dtype), MATRIX), plain)
        return plain.rename(folder / name)

    return write


def pair(header: str, voxels: str, kind: Any = nib.Nifti1Pair) -> Write:
    def write(folder: Path) -> Path:
        nib.save(kind(VALUES, MATRIX), folder / "plain.img")
        (folder / "plain.img").rename(folder / voxels)
        return (folder / "plain.hdr").rename(folder / header)

    return write


def by_itk(name: str, compressed: bool = False, space: str = "") -> Write:
    def write(folder: Path) -> Path:
        image = sitk.GetImageFromArray(VALUES.T)
        lps = np.diag([-1, -1, 1, 1]) @ MATRIX
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        plain = folder / name.lower()
        sitk.WriteImage(image, str(plain), compressed)
        if space:
            turn = np.diag([-1, -1, 1]) if space.startswith("right") else np.diag([1, -1, 1])
            directions = " ".join(f"({','.join(f'{x:.17g}' for x in column)})" for column in (turn @ lps[:3, :3]).T)
            origin = ",".join(f"{x:.17g}" for x in turn @ lps[:3, 3])
            lines = plain.read_bytes().split(b"\n")
            keys = {b"space:": f"space: {space}", b"space directions:": f"space directions: {directions}"}
            keys[b"space origin:"] = f"space origin: ({origin})"
            changed = [
                next((new.encode() for key, new in keys.items() if line.startswith(key)), line) for line in lines
            ]
            plain.write_bytes(b"\n".join(changed))
        return plain.rename(folder / name)

    return write


READ: dict[str, Write] = {
    "upper case": by_nibabel(nib.Nifti1Image, "a.NII.GZ"),
    "pair": pair("a.hdr", "a.img"),
    "pair in capitals": pair("A.HDR", "A.IMG"),
    "pair of NIfTI-2": pair("a.hdr", "a.img", nib.Nifti2Pair),
    "mgz": by_nibabel(nib.MGHImage, "a.mgz"),
    "mgh of bytes": by_nibabel(nib.MGHImage, "a.mgh", "uint8"),
    "MGZ of float32": by_nibabel(nib.MGHImage, "a.MGZ", "float32"),
    "nrrd": by_itk("a.nrrd"),
    "nrrd compressed": by_itk("a.nrrd", compressed=True),
    "nrrd in RAS": by_itk("a.nrrd", space="right-anterior-superior"),
    "nrrd in LAS": by_itk("a.nrrd", space="left-anterior-superior"),
    "mha": by_itk("a.mha"),
    "MHA compressed": by_itk("a.MHA", compressed=True),
}


@pytest.mark.parametrize("name", READ)
def test_every_format_gives_the_same_image(name: str, tmp_path: Path) -> None:
    path = READ[name](tmp_path)
    image, header = read_image(path), read_header(path)
    assert torch.equal(image.data, torch.from_numpy(VALUES).float())
    assert torch.equal(read_labels(path).data, torch.from_numpy(VALUES).long())
    assert np.abs(image.grid.ras_from_voxel - MATRIX).max() < 1e-4
    assert header.shape == VALUES.shape
    assert header.grid is not None
    assert header.grid.isclose(image.grid)


def test_2d_images_of_itk_are_read(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VALUES[..., 0].T)
    image.SetSpacing((2.0, 3.0))
    image.SetOrigin((5.0, 7.0))
    for suffix in (".nrrd", ".mha"):
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        read = read_image(tmp_path / f"a{suffix}")
        assert torch.equal(read.data, torch.from_numpy(VALUES[..., 0]).float())
        assert np.allclose(read.grid.ras_from_voxel, [[-2, 0, -5], [0, -3, -7], [0, 0, 1]])


def refused(path: Path, rule: str) -> None:
    for read in (read_image, read_labels):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert rule in str(caught.value)
        assert "\n" not in str(caught.value)


def test_analyze_is_refused_as_its_left_is_unknown(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(VALUES, np.eye(4)), tmp_path / "a.img")
    refused(tmp_path / "a.hdr", "Analyze 7.5 header, which does not state which side is left")


def test_a_pair_is_named_by_its_header_and_must_be_whole(tmp_path: Path) -> None:
    path = pair("a.hdr", "a.img")(tmp_path)
    refused(tmp_path / "a.img", "holds the voxels of a pair, which is named by its .hdr")
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-3])
    with pytest.raises(ImageError, match=r"a\.img is truncated: its 237 bytes are fewer than the 240"):
        read_image(path)
    (tmp_path / "a.img").unlink()
    refused(path, "its voxels must lie beside it in a.img, which is missing")


def several_numbers(path: Path, vector: bool = True) -> Path:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.float32), isVector=vector)
    sitk.WriteImage(image, str(path))
    return path


def test_vectors_and_series_are_refused(tmp_path: Path) -> None:
    for suffix in (".nrrd", ".mha"):
        refused(several_numbers(tmp_path / f"v{suffix}"), "voxels of 3 numbers")
    refused(several_numbers(tmp_path / "s.mha", vector=False), "an image must be one 2-D or 3-D volume")
    assert read_header(tmp_path / "s.mha").shape == (3, 6, 5, 4)
    nib.save(nib.MGHImage(np.zeros((6, 5, 4, 2), np.float32), MATRIX), tmp_path / "s.mgz")
    refused(tmp_path / "s.mgz", "(6, 5, 4, 2); an image must be one 2-D or 3-D volume")


@pytest.mark.parametrize("place", [b"../secret.raw", b"LIST", b"slice_%03d.raw 1 4 1"])
def test_a_header_that_names_other_files_is_refused(place: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(240))
    path = by_itk("a.mha")(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"LOCAL", place))
    refused(path, "names another file for its voxels")
    path = by_itk("a.nrrd")(tmp_path)
    for key in (b"data file", b"datafile", b"Data File"):
        path.write_bytes(b"NRRD0004\n" + key + b": " + place + b"\n" + path.read_bytes().partition(b"\n")[2])
        refused(path, "names another file for its voxels")


@pytest.mark.parametrize("line", [b"", b"space: scanner-xyz\n", b"space: 3D-right-handed\n"])
def test_a_nrrd_in_an_unknown_space_is_refused(line: bytes, tmp_path: Path) -> None:
    path = by_itk("a.nrrd")(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior\n", line))
    refused(path, "so which side is left is unknown")


def test_a_freesurfer_volume_without_placement_is_refused(tmp_path: Path) -> None:
    path = by_nibabel(nib.MGHImage, "a.mgh")(tmp_path)
    content = bytearray(path.read_bytes())
    content[28:30] = bytes(2)
    path.write_bytes(content)
    refused(path, "its goodRASFlag is 0")


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh", "a.nrrd", "a.mha", "a.hdr"])
@pytest.mark.parametrize("content", [b"", b"x" * 400, bytes(1000)])
def test_other_content_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "must")


@pytest.mark.parametrize("name", ["mgz", "mgh of bytes", "nrrd", "nrrd compressed", "mha", "MHA compressed"])
def test_a_truncated_file_is_refused(name: str, tmp_path: Path) -> None:
    path = READ[name](tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "truncated")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)], ids=["pipe", "socket"]
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.nrrd", "a.hdr"])
def test_what_is_no_regular_file_is_not_opened(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    refused(tmp_path / name, "a pipe, a device or a socket and no regular file")
    with pytest.raises(OSError, match="no regular file"):
        sha256_file(tmp_path / name)


def test_a_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to("/dev/zero")
    refused(tmp_path / "a.nii", "no regular file")
    with pytest.raises(ImageError, match="no regular file"):
        sha256_image(tmp_path / "a.nii")


def test_a_compressed_file_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header announces 1024³ voxels of two bytes, and 2 MB of zeros in gzip would give them."""
    header = nib.Nifti1Header()
    header.set_data_shape((1024, 1024, 1024))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "a.nii.gz", "wb", 1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(64):
            file.write(bytes(2**25))
    monkeypatch.setattr("covoxel.io.raw.available_bytes", lambda: 2**31)
    with pytest.raises(ImageError, match=r"a\.nii\.gz needs about 4\.1 GiB of memory to be read, 2\.0 GiB are free"):
        read_image(tmp_path / "a.nii.gz")
    with pytest.raises(ImageError, match=r"needs about 8\.1 GiB"):
        read_labels(tmp_path / "a.nii.gz")
    assert read_header(tmp_path / "a.nii.gz").shape == (1024, 1024, 1024)


@pytest.mark.parametrize("name", ["mgz", "mha", "nrrd compressed", "pair"])
def test_every_format_is_held_against_the_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = READ[name](tmp_path)
    monkeypatch.setattr("covoxel.io.raw.available_bytes", lambda: 4 * VALUES.size)
    refused(path, "of memory to be read, 480 bytes are free")


@pytest.mark.parametrize("slab_bytes", [1, 150, 2**20])
def test_slabs_of_any_size_give_the_same_image(
    slab_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covoxel.io.raw.SLAB_BYTES", slab_bytes)
    for name in ("mgz", "pair", "upper case"):
        assert torch.equal(read_image(READ[name](tmp_path)).data, torch.from_numpy(VALUES).float())


def test_a_label_beyond_int64_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 2**63, np.uint64), np.eye(4), dtype="uint64"), tmp_path / "a.nii")
    with pytest.raises(ImageError, match="9223372036854775808; a label must be below"):
        read_labels(tmp_path / "a.nii")


def test_the_hash_of_a_pair_covers_both_files(tmp_path: Path) -> None:
    path = pair("a.hdr", "a.img")(tmp_path)
    assert image_files(path) == (path, tmp_path / "a.img")
    before = sha256_image(path)
    content = bytearray((tmp_path / "a.img").read_bytes())
    content[5] ^= 1
    (tmp_path / "a.img").write_bytes(content)
    assert sha256_image(path) != before
    single = by_nibabel(nib.Nifti1Image, "b.nii")(tmp_path)
    assert image_files(single) == (single,)
    assert sha256_image(single) == sha256_file(single)
