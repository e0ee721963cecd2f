"""Files in and out: images, transforms, tables. The only home of LPS and of file formats."""

from covoxel.io.atomic import atomic_path, write_bytes, write_json, write_text
from covoxel.io.hashing import sha256_file, sha256_json
from covoxel.io.nifti import Header, read_header, read_image, read_labels, write_image, write_labels
from covoxel.io.nifti_file import ImageError
from covoxel.io.tables import read_table, write_table

__all__ = [
    "Header",
    "ImageError",
    "atomic_path",
    "read_header",
    "read_image",
    "read_labels",
    "read_table",
    "sha256_file",
    "sha256_json",
    "write_bytes",
    "write_image",
    "write_json",
    "write_labels",
    "write_table",
    "write_text",
]
