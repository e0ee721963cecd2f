"""Order: by what images are, not by what they are called, cases are summed and a reference is found."""

from collections.abc import Mapping
from hashlib import sha256

from covoxel.spatial import Image


def digest(image: Image) -> str:
    """SHA-256 of the voxels and the grid of an image."""
    found = sha256(image.data.float().cpu().contiguous().numpy().tobytes())
    found.update(repr(image.grid.shape).encode())
    found.update(image.grid.ras_from_voxel.tobytes())
    return found.hexdigest()


def mass(image: Image) -> float:
    """Sum of the intensities above zero times the volume of a voxel."""
    return float(image.data.double().clamp(min=0).sum()) * image.grid.voxel_volume_mm


def provisional_reference(masses: Mapping[str, float], digests: Mapping[str, str]) -> str:
    """Id of the image of median mass: all are first brought onto it, and the mean map from it is then taken out."""
    ranked = sorted(masses, key=lambda name: (masses[name], digests[name], name))
    return ranked[(len(ranked) - 1) // 2]
