"""One list of files of a series: nothing is lost from it, copied into it, or read beside it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from covoxel.io import ImageError, image_files, read_dicom_series, sha256_image
from covoxel.io.dicom_folder import holds_dicom, read_tree
from tests.unit.dicom_files import make_slice, values, write, write_series


def read(folder: Path) -> np.ndarray:
    return read_dicom_series(folder).data.numpy()


def refused(folder: Path, *rules: str) -> None:
    for use in (read_dicom_series, image_files, sha256_image):
        with pytest.raises(ImageError) as caught:
            use(folder)
        for rule in rules:
            assert rule in str(caught.value)
        assert "\n" not in str(caught.value)


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "emptied": (lambda file: file.write_bytes(b""), "is empty"),
    "zeros": (lambda file: file.write_bytes(bytes(4000)), "is no DICOM file"),
    "text": (lambda file: file.write_text("404 not found"), "is no DICOM file"),
    "header cut": (lambda file: file.write_bytes(file.read_bytes()[:400]), "damaged DICOM file"),
    "in the preamble": (lambda file: file.write_bytes(file.read_bytes()[:60]), "is no DICOM file"),
    "pixels cut": (lambda file: file.write_bytes(make_short(file)), "is truncated"),
    "link to nowhere": (lambda file: (file.unlink(), file.symlink_to("nowhere")), "link to a file that does not exist"),
    "pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "no regular file"),
    "unfinished copy": (lambda file: (file.write_bytes(bytes(9)), file.rename(f"{file}.part")), "named like a slice"),
    "compressed copy": (lambda file: (file.with_suffix(".dcm.gz").write_bytes(b"\x1f\x8b"), file.unlink()), ".dcm.gz"),
}


def make_short(file: Path) -> bytes:
    """A header that announces more pixels than the file has bytes."""
    write(file, make_slice(0, Rows=50, Columns=60))
    return file.read_bytes()


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("number", [0, 2, 5])
def test_one_damaged_slice_excludes_the_series(name: str, number: int, tmp_path: Path) -> None:
    damage, rule = DAMAGES[name]
    folder = write_series(tmp_path / "a")
    damage(folder / f"{number:03d}.dcm")
    refused(folder, f"{number:03d}.dcm", rule)


@pytest.mark.parametrize("name", ["IM{:04d}", "MR.1.2.840.{}", "{}"])
def test_slices_without_suffix_are_missed_as_well(name: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", name=name)
    assert np.array_equal(read(folder), values())
    (folder / name.format(5)).write_bytes(b"")
    refused(folder, name.format(5), "is empty")


def test_several_damaged_slices_are_counted(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    for number in (3, 4, 5):
        (folder / f"{number:03d}.dcm").write_bytes(b"")
    refused(folder, "003.dcm is empty", "(and 2 more such files)")


def test_other_files_beside_the_slices_change_nothing(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    before = sha256_image(folder)
    for name in ("README", "DICOMDIR", "000.jpg", "report.pdf", "notes", "000.json", ".hidden", "Thumbs.db", "a.xyz"):
        (folder / name).write_bytes(b"\xff\xd8\xff")
    (folder / "LICENSE").write_bytes(b"")
    write(folder / "report.dcm", make_report())
    assert np.array_equal(read(folder), values())
    assert sha256_image(folder) == before
    assert len(image_files(folder)) == 6


def make_report() -> "object":
    item = make_slice(0, "1.2.77", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(item, name)
    return item


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    before = read(folder)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    assert holds_dicom(tmp_path)
    assert np.array_equal(read(folder), before)


def test_a_series_goes_on_below_and_is_hashed_there(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", numbers=range(3))
    write_series(folder / "more" / "deeper", numbers=range(3, 6))
    write_series(folder / "another", "1.2.2")
    assert np.array_equal(read(folder), values())
    before = sha256_image(folder)
    write(folder / "another" / "000.dcm", make_slice(9, "1.2.2"))
    assert sha256_image(folder) == before
    write(folder / "more" / "deeper" / "004.dcm", make_slice(4, PixelData=bytes(60)))
    assert sha256_image(folder) != before
    assert not read(folder)[..., 4].any()
    (folder / "more" / "deeper" / "005.dcm").write_bytes(b"")
    refused(folder, "005.dcm is empty")


def test_damage_in_a_folder_of_another_series_concerns_nobody_else(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    (write_series(folder / "other", "1.2.2") / "001.dcm").write_bytes(b"")
    assert np.array_equal(read(folder), values())
    refused(folder / "other", "001.dcm is empty")


def test_copies_of_slices_are_dropped(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    before = sha256_image(folder)
    shutil.copytree(folder, folder / "old")
    shutil.copy(folder / "002.dcm", folder / "002 (copy).dcm")
    write(folder / "anew.dcm", make_slice(3, SOPInstanceUID="1.2.99"))  # the same pixels under a new number
    assert np.array_equal(read(folder), values())
    assert sha256_image(folder) == before


def test_slices_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    write(folder / "zzzz.dcm", make_slice(3, PixelData=bytes(60)))
    refused(folder, "two files of one slice, 003.dcm and zzzz.dcm, with different pixels")
    write(folder / "zzzz.dcm", make_slice(3, SOPInstanceUID="1.2.99", PixelData=bytes(60)))
    refused(folder, "two slices at one position, 003.dcm and zzzz.dcm")
    write(folder / "zzzz.dcm", make_slice(3, SOPInstanceUID="1.2.99", RescaleSlope=2))
    refused(folder, "two slices at one position")


def test_several_echoes_in_one_series_are_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    for number in range(6):
        position = [0, 0, 2 * number]
        item = make_slice(number + 6, ImagePositionPatient=position)
        write(folder / f"echo{number}.dcm", item)
    refused(folder, "2 at each position: several echoes, phases or time points")


def test_a_localizer_or_a_screen_shot_beside_a_scan_is_not_read(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    write(folder / "scout.dcm", make_slice(0, "1.2.2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    write(folder / "shot.dcm", make_slice(0, "1.2.3", SOPClassUID=SecondaryCaptureImageStorage))
    assert np.array_equal(read(folder), values())
    write_series(tmp_path / "b", SOPClassUID=SecondaryCaptureImageStorage)
    assert np.array_equal(read(tmp_path / "b"), values())


def test_slices_that_the_headers_miss_are_missed(tmp_path: Path) -> None:
    every_second = write_series(tmp_path / "a", numbers=range(0, 12, 2))
    refused_when_read(every_second, "number 1, 3, … 4 mm apart, and its headers state 2 mm from slice to slice")
    assert read(write_series(tmp_path / "b", numbers=range(0, 12, 2), SliceThickness=4)).shape == (6, 5, 6)
    pet = write_series(tmp_path / "c", Modality="PT", NumberOfSlices=7)
    refused_when_read(pet, "has 6 slices and its headers announce 7")


def refused_when_read(folder: Path, rule: str) -> None:
    with pytest.raises(ImageError, match=rule):
        read_dicom_series(folder)


def test_each_header_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from covoxel.io import dicom_folder

    read_files: list[Path] = []
    real = dicom_folder.read_slice
    monkeypatch.setattr(dicom_folder, "read_slice", lambda path: read_files.append(path) or real(path))
    folder = write_series(tmp_path / "a")
    for _ in range(3):
        sha256_image(folder)
        read(folder)
    assert sorted(read_files) == sorted(folder.iterdir())
    content = (folder / "004.dcm").read_bytes()
    (folder / "004.dcm").write_bytes(content.replace(b"1.2.1.5", b"1.2.1.9"))  # in place, as many bytes as before
    image_files(folder)
    assert read_files[6:] == [folder / "004.dcm"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    outside = write_series(tmp_path / "archive" / "scan")
    root = tmp_path / "cohort"
    root.mkdir()
    (root / "p1").symlink_to(outside.parent)
    (root / "again").symlink_to(root)
    tree = read_tree(root)
    assert [content.folder for content in tree.contents] == [root / "p1" / "scan"]
    assert np.array_equal(read(root / "p1"), values())


def test_a_closed_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "a")
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    tree = read_tree(tmp_path)
    assert tree.closed == ((tmp_path / "closed", f"{tmp_path / 'closed'} cannot be opened: Permission denied"),)
    assert len(tree.contents) == 1
