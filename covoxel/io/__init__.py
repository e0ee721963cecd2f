"""Files in and out: images, transforms, tables. The only home of LPS and of file formats."""

from covoxel.io.atomic import atomic_path, write_bytes, write_json, write_text
from covoxel.io.dicom import DicomSeries, list_dicom_series, read_dicom_series
from covoxel.io.files import image_files, sha256_image
from covoxel.io.hashing import sha256_file, sha256_json
from covoxel.io.images import Header, read_header, read_image, read_labels
from covoxel.io.nifti import write_image, write_labels
from covoxel.io.raw import ImageError
from covoxel.io.regular import open_regular
from covoxel.io.sidecar import sidecar_path, write_sidecar
from covoxel.io.table_text import TableError
from covoxel.io.tables import read_rows, read_table, write_table
from covoxel.io.transforms import (
    read_affine,
    read_displacement,
    read_transform,
    write_affine,
    write_displacement,
    write_transform,
)

__all__ = [
    "DicomSeries",
    "Header",
    "ImageError",
    "TableError",
    "atomic_path",
    "image_files",
    "list_dicom_series",
    "open_regular",
    "read_affine",
    "read_dicom_series",
    "read_displacement",
    "read_header",
    "read_image",
    "read_labels",
    "read_rows",
    "read_table",
    "read_transform",
    "sha256_file",
    "sha256_image",
    "sha256_json",
    "sidecar_path",
    "write_affine",
    "write_bytes",
    "write_displacement",
    "write_image",
    "write_json",
    "write_labels",
    "write_sidecar",
    "write_table",
    "write_text",
    "write_transform",
]
