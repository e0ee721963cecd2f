"""A result of one case: its label map and confidence on disk, and what the tables say of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from covoxel.io import write_image, write_labels
from covoxel.metrics import volumes_mm3
from covoxel.spatial import Image
from tasks.job import number


def write_result(label_map: Image, confidence: Image, places: tuple[Path, Path]) -> list[Path]:
    """Write a label map and its voxelwise confidence to `places`; the files."""
    write_labels(places[0], label_map)
    write_image(places[1], confidence)
    return list(places)


def result_facts(label_map: Image, confidence: Image, values: Sequence[int]) -> dict[str, Any]:
    """Volumes and mean confidence of each structure, and of all together.

    Parameters
    ----------
    label_map, confidence
        On one grid.
    values
        Of the labels that there are, 0 (background) or not; a structure that was not found has a volume of 0.
    """
    inside = label_map.data != 0
    structures = [value for value in values if value != 0]
    volumes = volumes_mm3(label_map, structures)
    certain = {value: confidence.data[label_map.data == value].double() for value in structures}
    return {
        "certainty": number(float(confidence.data[inside].double().mean())),
        "ndim": label_map.grid.ndim,
        "volumes_mm3": {str(value): volumes[value] for value in structures},
        "confidence": {str(value): number(float(voxels.mean())) for value, voxels in certain.items()},
    }


def mean_known(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
