"""Small DICOM series, written where a test wants them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

SIZE = (6, 5)  # columns, rows


def pixels(number: int) -> np.ndarray:
    """Stored values of a slice, `(rows, columns)`, others for each number."""
    return np.random.default_rng(number).integers(0, 1500, SIZE[::-1]).astype(np.uint16)


def make_slice(number: int, series: str = "1.2.1", **tags: Any) -> Dataset:
    """An axial slice `number`, 2 mm above the one before; `tags` replace or add."""
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.SOPClassUID, item.SOPInstanceUID = MRImageStorage, f"{series}.{number + 1}"
    item.SeriesInstanceUID, item.StudyInstanceUID, item.Modality = series, "1.2.3", "MR"
    item.PatientName, item.InstanceNumber = "Doe^Jane", number + 1
    item.Columns, item.Rows = SIZE
    item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 0
    item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
    item.PixelSpacing, item.SliceThickness = [1, 1], 2
    item.ImageOrientationPatient, item.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * number]
    item.PixelData = pixels(number).tobytes()
    for name, value in tags.items():
        setattr(item, name, value)
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    return item


def write(path: Path, item: Dataset) -> Path:
    """Write a slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    item.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, series: str = "1.2.1", numbers: Iterable[int] = range(6), name: str = "{:03d}.dcm", **tags: Any
) -> Path:
    """Write the slices of a series."""
    for number in numbers:
        write(folder / name.format(number), make_slice(number, series, **tags))
    return folder


def values(numbers: Iterable[int] = range(6)) -> np.ndarray:
    """Voxels of a series, `(columns, rows, slices)`."""
    return np.stack([pixels(number).T for number in numbers], axis=-1)
