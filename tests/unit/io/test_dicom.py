"""DICOM series become images where ITK sees them, and a broken series is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

from covoxel.io import ImageError, list_dicom_series, read_dicom_series

TURN = np.array([[0.8, -0.6, 0.0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]]).T  # rows are unit vectors
SPACING = np.array([0.7, 1.3, 4.0])  # between columns, between rows, between slices
ORIGIN = np.array([-30.0, 12.0, 55.0])
VOXELS = np.random.default_rng(3).integers(0, 2000, (6, 5, 4)).astype(np.uint16)

Change = Callable[[FileDataset], object]


def write_series(folder: Path, change: Change = lambda slice_: None, number: int = 1, step: Any = None) -> Path:
    """Write `VOXELS` as a series, slices under names in no order; `change` alters each slice."""
    folder.mkdir(exist_ok=True)
    step = TURN[2] * SPACING[2] if step is None else step
    for k in range(VOXELS.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number), str(k)])
        item = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        item.SOPClassUID, item.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        item.SeriesInstanceUID, item.SeriesDescription, item.Modality = f"1.2.{number}", f"T{number}", "MR"
        item.PatientName, item.PatientID, item.InstanceNumber = "Doe^Jane", "4711", k + 1
        item.Rows, item.Columns = VOXELS.shape[1], VOXELS.shape[0]
        item.PixelSpacing = [SPACING[1], SPACING[0]]
        item.ImageOrientationPatient = [*TURN[0], *TURN[1]]
        item.ImagePositionPatient = [f"{x:.6f}" for x in ORIGIN + k * step]
        item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 0
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
        item.PixelData = VOXELS[:, :, k].T.tobytes()
        change(item)
        item.save_as(folder / f"{(k * 7 + 3) % 5}_{number}.dcm", enforce_file_format=True)
    return folder


def ras_from_voxel(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS+ position of pixel (column i, row j, slice k), straight from DICOM PS3.3 C.7.6.2.1.1."""
    matrix = np.eye(4)
    matrix[:3] = np.stack([TURN[0] * SPACING[0], TURN[1] * SPACING[1], step, ORIGIN], 1)
    return np.diag([-1, -1, 1, 1]) @ matrix


def test_voxels_and_places_are_those_of_the_standard(tmp_path: Path) -> None:
    image = read_dicom_series(write_series(tmp_path / "a"))
    assert np.array_equal(image.data.numpy(), VOXELS)
    assert np.abs(image.grid.ras_from_voxel - ras_from_voxel(TURN[2] * SPACING[2])).max() < 1e-5
    assert np.allclose(image.grid.spacing_mm, SPACING, atol=1e-5)


def test_a_tilted_gantry_gives_a_sheared_grid(tmp_path: Path) -> None:
    step = TURN[2] * SPACING[2] + TURN[1] * 0.9
    image = read_dicom_series(write_series(tmp_path / "a", step=step))
    assert np.abs(image.grid.ras_from_voxel - ras_from_voxel(step)).max() < 1e-5


def test_every_slice_is_rescaled_as_it_says(tmp_path: Path) -> None:
    def rescale(item: FileDataset) -> None:
        item.RescaleSlope, item.RescaleIntercept = 0.5 * item.InstanceNumber, -100

    image = read_dicom_series(write_series(tmp_path / "a", rescale))
    assert np.allclose(image.data.numpy(), VOXELS * np.arange(1, 5) * 0.5 - 100)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_monochrome1_is_never_inverted(modality: str, tmp_path: Path) -> None:
    def change(item: FileDataset) -> None:
        item.PhotometricInterpretation, item.Modality = "MONOCHROME1", modality
        item.RescaleSlope, item.RescaleIntercept = 2, -1024

    assert np.array_equal(read_dicom_series(write_series(tmp_path / "a", change)).data.numpy(), VOXELS * 2.0 - 1024)


def compressed(item: FileDataset, photometric: str) -> None:
    """Make a slice one of 16 x 16 pixels, run-length encoded: ITK cannot decode the tiny ones."""
    item.Rows, item.Columns, item.PhotometricInterpretation = 16, 16, photometric
    item.PixelData = (np.arange(256) * int(item.InstanceNumber)).astype(np.uint16).tobytes()
    item.compress(RLELossless)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_compressed_slices_are_read_whole_or_refused(photometric: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", lambda item: compressed(item, photometric))
    values = np.stack([np.arange(256.0).reshape(16, 16).T * number for number in range(1, 5)], axis=-1)
    assert np.array_equal(read_dicom_series(folder).data.numpy(), values)
    file = list_dicom_series(folder)[0].files[3]
    file.write_bytes(file.read_bytes()[:-12])
    refused(folder, "cannot be decoded")


def test_signed_and_12_bit_values_stored_as_monochrome1_are_kept(tmp_path: Path) -> None:
    def change(item: FileDataset) -> None:
        item.PhotometricInterpretation, item.PixelRepresentation = "MONOCHROME1", 1
        item.BitsStored, item.HighBit = 12, 11
        item.PixelData = (VOXELS[:, :, item.InstanceNumber - 1].T.astype(np.int16) - 1000).tobytes()

    assert np.array_equal(read_dicom_series(write_series(tmp_path / "a", change)).data.numpy(), VOXELS - 1000.0)


def test_a_large_intercept_costs_no_grey_levels(tmp_path: Path) -> None:
    def change(item: FileDataset) -> None:
        item.RescaleSlope, item.RescaleIntercept = 0.5, 1e9

    values = read_dicom_series(write_series(tmp_path / "a", change)).data.numpy()
    assert np.array_equal(values - values.min(), (VOXELS - VOXELS.min()) * 0.5)


def test_values_beyond_float32_are_refused(tmp_path: Path) -> None:
    refused(write_series(tmp_path / "a", lambda item: setattr(item, "RescaleSlope", "3e38")), "must lie within")


def test_a_series_is_held_against_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covoxel.io.raw.available_bytes", lambda: 4 * VOXELS.size)
    refused(write_series(tmp_path / "a"), "of memory to be read, 480 bytes are free")


def test_one_slice_has_the_thickness_it_says(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", lambda item: setattr(item, "SliceThickness", 3))
    for file in sorted(folder.iterdir())[1:]:
        file.unlink()
    grid = read_dicom_series(folder).grid
    assert grid.shape == (6, 5, 1)
    assert np.allclose(grid.spacing_mm, [0.7, 1.3, 3])


def test_the_real_series_are_where_itk_sees_them(data_folder: Path) -> None:
    folder = data_folder / "dicom" / "PGBM-003" / "T1prereg"
    image = read_dicom_series(folder)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    seen = sitk.ReadImage(names)
    assert np.array_equal(sitk.GetArrayFromImage(seen).T, image.data.numpy())
    for index in [(0, 0, 0), (279, 319, 21), (100, 3, 12)]:
        place = np.array(seen.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        assert np.abs(place - image.grid.to_ras(index)).max() < 1e-3
    assert list_dicom_series(folder)[0].files == tuple(Path(name) for name in names)


def test_series_are_listed_with_their_files_in_order_and_nothing_of_the_patient(tmp_path: Path) -> None:
    write_series(tmp_path / "a", number=2)
    write_series(tmp_path / "a", number=1)
    (tmp_path / "a" / "notes.txt").write_text("no DICOM")
    (tmp_path / "a" / "empty").write_bytes(b"")
    listed = list_dicom_series(tmp_path)
    assert [(s.uid, s.description) for s in listed] == [("1.2.1", "T1"), ("1.2.2", "T2")]
    for series in listed:
        assert [pydicom.dcmread(f).InstanceNumber for f in series.files] == [1, 2, 3, 4]
        assert "Doe" not in repr(series)
        assert "4711" not in repr(series)


def test_one_series_of_several_is_read_by_its_uid(tmp_path: Path) -> None:
    write_series(tmp_path / "a", number=1)
    write_series(tmp_path / "a", lambda item: setattr(item, "PixelData", bytes(60)), number=2)
    assert np.array_equal(read_dicom_series(tmp_path, "1.2.1").data.numpy(), VOXELS)
    assert read_dicom_series(tmp_path, "1.2.2").data.max() == 0
    refused(tmp_path, "holds 2 DICOM series (T1, 4 slices; T2, 4 slices); one series must be there")
    with pytest.raises(ImageError, match=r"the series 1\.2\.9 must be there"):
        read_dicom_series(tmp_path, "1.2.9")


def refused(folder: Path, rule: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_dicom_series(folder)
    assert str(folder) in str(caught.value)
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def of_slice(number: int, **tags: Any) -> Change:
    def change(item: FileDataset) -> None:
        if item.InstanceNumber == number:
            for name, value in tags.items():
                setattr(item, name, value)

    return change


BROKEN: dict[str, tuple[Change, str]] = {
    "same place twice": (
        lambda item: setattr(item, "ImagePositionPatient", [*ORIGIN[:2], min(item.InstanceNumber, 3)]),
        "two slices at one position",
    ),
    "one slice moved aside": (
        of_slice(2, ImagePositionPatient=[f"{x:.6f}" for x in ORIGIN + TURN[2] * 4 + TURN[0]]),
        "equally spaced",
    ),
    "another size": (
        of_slice(3, Rows=4, PixelData=bytes(48)),
        "6 x 4 pixels; all slices of the series must have 6 x 5",
    ),
    "another orientation": (of_slice(2, ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), "ImageOrientationPatient"),
    "another spacing": (of_slice(2, PixelSpacing=[1.3, 0.8]), "PixelSpacing"),
    "no position": (of_slice(2, ImagePositionPatient=None), "ImagePositionPatient None"),
    "spacing of 0": (lambda item: setattr(item, "PixelSpacing", [0, 1]), "finite and invertible"),
    "many frames": (of_slice(1, NumberOfFrames=3), "3 frames of 1 colours"),
    "colour": (of_slice(1, SamplesPerPixel=3), "1 frames of 3 colours"),
    "palette": (of_slice(1, PhotometricInterpretation="PALETTE COLOR"), "is stored as PALETTE COLOR"),
    "table of values": (of_slice(2, ModalityLUTSequence=[pydicom.Dataset()]), "rescales its values by a table"),
    "pixels missing": (lambda item: delattr(item, "PixelData"), "cannot be decoded"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_series_is_refused(name: str, tmp_path: Path) -> None:
    change, rule = BROKEN[name]
    refused(write_series(tmp_path / "a", change), rule)


def test_a_missing_slice_is_noticed(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    list_dicom_series(folder)[0].files[1].unlink()
    refused(folder, "slices 4 to 8 mm apart")


def test_a_truncated_slice_is_noticed(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    file = list_dicom_series(folder)[0].files[2]
    file.write_bytes(file.read_bytes()[:-30])
    refused(folder, "must be")


@pytest.mark.parametrize("keep", [200, 300, 400, 500])
def test_a_damaged_header_hides_no_other_series_and_is_not_read_over(keep: int, tmp_path: Path) -> None:
    write_series(tmp_path / "a", number=1)
    write_series(tmp_path / "b", number=2)
    file = tmp_path / "b" / "bad.dcm"
    file.write_bytes(next((tmp_path / "b").iterdir()).read_bytes()[:keep])
    assert [len(series.files) for series in list_dicom_series(tmp_path)] == [4, 4]
    assert np.array_equal(read_dicom_series(tmp_path / "a").data.numpy(), VOXELS)
    refused(tmp_path / "b", "damaged DICOM file")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    file = list_dicom_series(folder)[0].files[3]
    content, rng, outcomes = file.read_bytes(), np.random.default_rng(0), set()
    for _ in range(150):
        damaged = bytearray(content[: rng.integers(140, len(content) + 100)])
        for at in rng.integers(132, len(damaged), 3):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            read_dicom_series(folder)
            outcomes.add("read")
        except ImageError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_no_series_and_no_folder_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "holds 0 DICOM series")
    refused(tmp_path / "none", "is no folder")
