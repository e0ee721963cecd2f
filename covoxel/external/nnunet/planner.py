"""nnU-Net's fingerprint and planner, run in this process on what is given to them, and plans of other sizes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
)
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from numpy.typing import NDArray

from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.library import kept_apart, managers
from covoxel.external.nnunet.profiles import Profile
from covoxel.io.atomic import temporary_folder

Facts = dict[str, Any]

_PLANNERS = {"default": ExperimentPlanner, "resenc": nnUNetPlannerResEncL}
_NAMES = {"default": "nnUNetPlans", "resenc": "nnUNetResEncUNetLPlans"}
_MIN_EDGE = 4
_SAMPLES = 1_000_000
"""Foreground voxels for the intensities of the data set; nnU-Net draws a hundred times as many, with repetition."""


def facts_of(images: NDArray[np.float32], labels: NDArray[np.int16], spacing: Sequence[float], cases: int) -> Facts:
    """What the fingerprint wants of a case `(channel, k, j, i)`, one of so many."""
    cropped, cropped_labels, _ = crop_to_nonzero(images, labels.copy())
    drawn, _ = DatasetFingerprintExtractor.collect_foreground_intensities(
        cropped_labels, cropped, num_samples=max(1000, _SAMPLES // cases)
    )
    return {
        "shape": list(cropped.shape[1:]),
        "spacing": list(spacing),
        "intensities": [np.asarray(each, dtype=np.float32) for each in drawn],
        "kept": cropped[0].size / images[0].size,
    }


def fingerprint_of(facts: Iterable[Facts]) -> dict[str, Any]:
    """nnU-Net's fingerprint of a data set."""
    found = list(facts)
    channels = []
    for channel in range(len(found[0]["intensities"])):
        values = np.concatenate([each["intensities"][channel] for each in found])
        if not len(values):
            raise NnunetError("no label map of the data set has a structure; nnU-Net has nothing to learn")
        low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
        channels.append(
            {
                "mean": float(np.mean(values)),
                "median": float(median),
                "std": float(np.std(values)),
                "min": float(np.min(values)),
                "max": float(np.max(values)),
                "percentile_99_5": float(high),
                "percentile_00_5": float(low),
            }
        )
    return {
        "spacings": [each["spacing"] for each in found],
        "shapes_after_crop": [each["shape"] for each in found],
        "foreground_intensity_properties_per_channel": dict(enumerate(channels)),
        "median_relative_size_after_cropping": float(np.median([each["kept"] for each in found])),
    }


def plans_of(
    name: str, dataset_json: Mapping[str, Any], fingerprint: Mapping[str, Any], profile: Profile, scratch: Path
) -> dict[str, Any]:
    """nnU-Net's plans by the planner of the profile; nothing stays in `scratch`."""
    with temporary_folder(scratch) as folder, kept_apart(folder):
        raw, prepared = folder / "nnUNet_raw" / name, folder / "nnUNet_preprocessed" / name
        raw.mkdir(parents=True)
        prepared.mkdir(parents=True)
        # With the key "dataset" nnU-Net does not look for files, which it would do in twelve processes.
        content = {**dataset_json, "dataset": {}}
        (raw / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
        (prepared / "dataset_fingerprint.json").write_text(json.dumps(fingerprint), encoding="utf-8")
        planner = _PLANNERS[profile.planner](name, plans_name=_NAMES[profile.planner])
        planner.determine_reader_writer = lambda: SimpleITKIO
        plans = planner.plan_experiment()
    recursive_fix_for_json_export(plans)
    return dict(json.loads(json.dumps(plans)))


def fit(plans: dict[str, Any], configuration: str, profile: Profile) -> None:
    """Give the plans the patch, batch and features that the profile wants."""
    own = plans["configurations"][configuration]
    if profile.patch is not None:
        if len(profile.patch) != len(own["patch_size"]):
            raise NnunetError(f"patch must have {len(own['patch_size'])} sides in {configuration}, got {profile.patch}")
        resize(own, profile.patch)
    while profile.patch_voxels is not None and np.prod(own["patch_size"]) > profile.patch_voxels:
        if not shrink(own):
            break
    own["batch_size"] = profile.batch or own["batch_size"]
    _set_features(own, profile)


def shrink(own: dict[str, Any]) -> bool:
    """Take the next smaller patch, along the axis where it is largest beside the images; False if there is none."""
    patch, median = list(own["patch_size"]), own["median_image_size_in_voxels"]
    for axis in np.argsort([side / whole for side, whole in zip(patch, median, strict=False)])[::-1]:
        smaller = list(patch)
        for _ in range(2):  # as nnU-Net: first by what divides now, then by what divides the smaller side
            divisor = get_pool_and_conv_props(own["spacing"], smaller, _MIN_EDGE, 999999)[4]
            smaller[axis] = patch[axis] - int(divisor[axis])
            if smaller[axis] < 2 * _MIN_EDGE:
                break
        if smaller[axis] >= 2 * _MIN_EDGE:
            resize(own, smaller)
            if np.prod(own["patch_size"]) < np.prod(patch):
                return True
            resize(own, patch)
    return False


def resize(own: dict[str, Any], patch: Sequence[int]) -> None:
    """Give a configuration another patch, padded as its network wants it, and a network of as many stages."""
    _, strides, kernels, padded, _ = get_pool_and_conv_props(own["spacing"], list(patch), _MIN_EDGE, 999999)
    settings, stages = own["architecture"]["arch_kwargs"], len(strides)
    features = settings["features_per_stage"]
    blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in settings else "n_conv_per_stage"
    own["patch_size"] = [int(side) for side in padded]
    settings.update(
        n_stages=stages,
        strides=[list(each) for each in strides],
        kernel_sizes=[list(each) for each in kernels],
        features_per_stage=_extended(features, stages),
        n_conv_per_stage_decoder=_extended(settings["n_conv_per_stage_decoder"], stages - 1),
    )
    settings[blocks] = _extended(settings[blocks], stages)


def network_of(
    plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str, *, deep_supervision: bool
) -> Any:
    """The network of the plans, its weights drawn by torch's generator."""
    manager, own, labels = managers(plans, dataset_json, configuration)
    channels = determine_num_input_channels(manager, own, dict(dataset_json))
    return nnUNetTrainer.build_network_architecture(
        manager, own, channels, labels.num_segmentation_heads, deep_supervision
    )


def _set_features(own: dict[str, Any], profile: Profile) -> None:
    settings = own["architecture"]["arch_kwargs"]
    first = profile.features or settings["features_per_stage"][0]
    most = profile.most_features or max(settings["features_per_stage"])
    settings["features_per_stage"] = [min(most, first * 2**stage) for stage in range(settings["n_stages"])]


def _extended(values: Sequence[int], count: int) -> list[int]:
    return [values[min(place, len(values) - 1)] for place in range(count)]
