"""Preprocessing: canonical orientation, bias, intensity, spacing and field of view, and the way back."""

from covoxel.preprocessing.bias import correct_bias
from covoxel.preprocessing.content import Box, content_box
from covoxel.preprocessing.cropping import crop, cropped_to_content, foreground_box
from covoxel.preprocessing.intensity import foreground, normalise
from covoxel.preprocessing.lattice import Lattice, copy_onto, shared_lattice
from covoxel.preprocessing.orientation import canonical, canonical_grid
from covoxel.preprocessing.pipeline import preprocess
from covoxel.preprocessing.restore import LabelRestorer, restore_labels, restore_map, restore_probabilities
from covoxel.preprocessing.spacing import respaced

__all__ = [
    "LabelRestorer",
    "Box",
    "Lattice",
    "canonical",
    "canonical_grid",
    "content_box",
    "copy_onto",
    "correct_bias",
    "crop",
    "cropped_to_content",
    "foreground",
    "foreground_box",
    "normalise",
    "preprocess",
    "respaced",
    "restore_labels",
    "restore_map",
    "restore_probabilities",
    "shared_lattice",
]
