"""Geometry: grids, transforms, warping. World is RAS+ mm; displacements point from fixed to moving."""

from covoxel.spatial.grid import Grid
from covoxel.spatial.image import Image
from covoxel.spatial.resample import resample, resample_labels, resample_probabilities
from covoxel.spatial.transform import Transform
from covoxel.spatial.warp import corners, sample, voxel_coordinates, warp

__all__ = [
    "Grid",
    "Image",
    "Transform",
    "corners",
    "resample",
    "resample_labels",
    "resample_probabilities",
    "sample",
    "voxel_coordinates",
    "warp",
]
