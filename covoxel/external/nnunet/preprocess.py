"""nnU-Net's preprocessing of one case, in this process, with the confidence of its labels beside."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from numpy.typing import NDArray

from covoxel.external.nnunet.axes import array_of, spacing_of, stacked, turned
from covoxel.external.nnunet.dataset import Dataset, DatasetCase
from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.library import managers
from covoxel.external.nnunet.prepared import ANNOTATED, PreparedCase
from covoxel.io import read_image, read_labels

Read = tuple[NDArray[np.float32], NDArray[np.int16], NDArray[np.float32] | None, list[float]]


def read_case(dataset: Dataset, case: DatasetCase) -> Read:
    """Images `(channel, k, j, i)`, labels and confidence `(1, k, j, i)`, and spacing of a labelled case."""
    images = [turned(read_image(path), dataset.canonical) for path in case.images]
    if case.label is None:
        raise NnunetError(f"{case.id} must have a label map to train")
    labels = turned(read_labels(case.label), dataset.canonical)
    others = [images[0], *images[1:], labels]
    confidence = None if case.confidence is None else turned(read_image(case.confidence), dataset.canonical)
    for each in others if confidence is None else [*others, confidence]:
        if not each.grid.isclose(images[0].grid, 1e-2):
            raise NnunetError(f"images and labels of {case.id} must lie on one grid")
    if not all(bool(image.data.isfinite().all()) for image in images):
        raise NnunetError(f"the images of {case.id} must have finite intensities only")
    known = {*range(len(dataset.values)), dataset.ignore}
    array = np.ascontiguousarray(array_of(labels.data)).astype(np.int16)
    unknown = sorted(set(np.unique(array).tolist()) - known)
    if unknown:
        raise NnunetError(f"{case.label} has the label {unknown[0]}, which is not in the data set")
    said = None if confidence is None else np.asarray(array_of(confidence.data), dtype=np.float32)
    return stacked(images), array, said, spacing_of(images[0].grid)


def prepare(plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str, read: Read) -> PreparedCase:
    """What nnU-Net makes of a case."""
    images, labels, confidence, spacing = read
    manager, own, known = managers(plans, dataset_json, configuration)
    properties: dict[str, Any] = {"spacing": spacing}
    preprocessor = DefaultPreprocessor(verbose=False)
    data, found, properties = preprocessor.run_case_npy(images, labels, properties, manager, own, dict(dataset_json))
    places = {_key(label): np.asarray(at).reshape(-1, 4) for label, at in properties["class_locations"].items()}
    prepared = np.ascontiguousarray(found.astype(np.int16))
    said = None if confidence is None else _resampled(confidence, manager, own, properties)
    if known.has_ignore_label:
        said = np.ones(prepared.shape, np.float32) if said is None else said
        said[prepared == known.ignore_label] = 0
        prepared[prepared == known.ignore_label] = 0
    half = None if said is None else said.astype(np.float16)
    return PreparedCase(np.ascontiguousarray(data, dtype=np.float32), prepared, half, places)


def prepare_image(
    plans: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    configuration: str,
    images: NDArray[np.float32],
    spacing: Sequence[float],
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """What nnU-Net makes of images without labels, and what it must know to go back."""
    manager, own, _ = managers(plans, dataset_json, configuration)
    properties: dict[str, Any] = {"spacing": list(spacing)}
    preprocessor = DefaultPreprocessor(verbose=False)
    data, _, properties = preprocessor.run_case_npy(images, None, properties, manager, own, dict(dataset_json))
    return data, properties


def _key(label: Any) -> int:
    return ANNOTATED if isinstance(label, tuple) else int(label)


def _resampled(
    confidence: NDArray[np.float32], manager: Any, own: Any, properties: Mapping[str, Any]
) -> NDArray[np.float32]:
    forward = manager.transpose_forward
    moved = confidence.transpose([0, *[axis + 1 for axis in forward]])
    moved = moved[(slice(None), *bounding_box_to_slice(properties["bbox_used_for_cropping"]))]
    before = [properties["spacing"][axis] for axis in forward]
    after = own.spacing if len(own.spacing) == 3 else [before[0], *own.spacing]
    shape = [round(a / b * n) for a, b, n in zip(before, after, moved.shape[1:], strict=True)]
    resampled = own.resampling_fn_probabilities(np.ascontiguousarray(moved), shape, before, after)
    return np.asarray(np.clip(resampled, 0, 1), dtype=np.float32)
