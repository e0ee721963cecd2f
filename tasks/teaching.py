"""Label maps that teach a network: those of the atlases, and predicted ones of other cases, which may not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from covoxel.io import ImageError, read_labels
from covoxel.spatial import Image, resample_labels
from covoxel.training.registration.recipe import Recipe
from data_catalog import Case
from tasks.engine import label_map_of
from tasks.same_labels import LabelContent, content_of
from tasks.settings import TrainSettings, require


def check_training(settings: TrainSettings, recipe: Recipe, cases: Sequence[Case], device: str) -> None:
    """Refuse settings by which a recipe could not train on these cases.

    Parameters
    ----------
    settings
        What is asked for.
    recipe
        How to train.
    cases
        All that train, atlases included.
    device
        "cpu" or "cuda".

    Raises
    ------
    SettingsError
        If the folder of predicted label maps is not there, of no use to the recipe, or has none of a case that is no
        atlas; or if the device does not compute in this precision, or there are not so many.
    """
    _check_device(settings, recipe, device)
    if settings.labels is None:
        return
    place = f"train.labels = {str(settings.labels)!r} is wrong"
    teaches = recipe.supervision == "labels"
    require(
        teaches, f"{place}: the recipe {recipe.name} has supervision {recipe.supervision}, and learns from no label"
    )
    require(settings.labels.is_dir(), f"{place}: there is no such folder")
    wanted = [case.id for case in cases if case.role != "atlas"]
    require(
        any(label_map_of(settings.labels, case) for case in wanted),
        f"{place}: it has a label map for none of the {len(wanted)} cases that train and are no atlas; they must be "
        "named after the cases, ID.nii.gz",
    )


def check_joint_training(settings: TrainSettings, recipe: str, device: str) -> None:
    """Refuse settings by which networks could not be trained jointly by a recipe of that name.

    Raises
    ------
    SettingsError
        If predicted label maps are named, there are to be several devices, or the device does not compute in this
        precision.
    """
    count, place = settings.devices, f"train.labels = {str(settings.labels)!r} is wrong"
    require(
        settings.labels is None, f"{place}: train-joint fuses the label maps that teach beside those of the atlases"
    )
    require(count == 1, f"train.devices = {count} is wrong: the joint recipe {recipe} trains on one device")
    _check_precision(settings, device)


def _check_device(settings: TrainSettings, recipe: Recipe, device: str) -> None:
    on_gpu, count = device == "cuda", settings.devices
    place = f"train.devices = {count} is wrong"
    require(count == 1 or on_gpu, f"{place}: only GPUs can be several, and this training is on the CPU")
    require(count <= recipe.batch, f"{place}: the recipe {recipe.name} has {recipe.batch} pairs in a batch to share")
    found = torch.cuda.device_count() if on_gpu else 1
    require(count <= found, f"{place}: this machine has {found}")
    _check_precision(settings, device)


def _check_precision(settings: TrainSettings, device: str) -> None:
    half = settings.precision == "16-mixed"
    require(device == "cuda" or not half, "train.precision = '16-mixed' is wrong: the CPU has bf16-mixed and 32-true")


@dataclass
class Lesson:
    """What label maps have to say to a network.

    Parameters
    ----------
    values
        All values of the label maps of the atlases in ascending order, 0 among them; empty without any.
    places
        By id of the case: each voxel's place in `values`, on the grid of the case's image.
    contents
        Of the label maps that teach.
    left_out
        By id of the case: why its predicted label map does not teach.
    """

    values: list[int] = field(default_factory=list)
    places: dict[str, Image] = field(default_factory=dict)
    contents: list[LabelContent] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def lesson_of(drawn: Mapping[str, Path], predicted: Mapping[str, Path], images: Mapping[str, Image]) -> Lesson:
    """Read the label maps that teach.

    Parameters
    ----------
    drawn
        Label maps of the atlases, by id; what values there are is theirs to say.
    predicted
        Label maps of other cases, by id; one that cannot be read, has another value or nothing at all on the image
        does not teach.
    images
        On whose grids they are brought.

    Raises
    ------
    ImageError
        If a label map of an atlas cannot be read.
    """
    maps = {case: read_labels(path) for case, path in drawn.items()}
    found = {value for labels in maps.values() for value in torch.unique(labels.data).tolist()}
    lesson = Lesson(sorted(found | {0}) if maps else [])
    for case, labels in maps.items():
        _add(lesson, case, labels, resample_labels(labels, images[case].grid))
    for case, path in predicted.items():
        try:
            labels = read_labels(path)
            _add(lesson, case, labels, _fitting(labels, images[case], lesson.values))
        except (ImageError, OSError, _UnfitError) as error:
            lesson.left_out[case] = f"its predicted label map does not teach: {error}"
    return lesson


class _UnfitError(ValueError):
    """A predicted label map does not fit the others; the message is why."""


def _add(lesson: Lesson, case: str, labels: Image, laid: Image) -> None:
    lesson.places[case] = Image(torch.searchsorted(torch.tensor(lesson.values), laid.data.contiguous()), laid.grid)
    lesson.contents.append(content_of(labels))


def _fitting(labels: Image, image: Image, values: Sequence[int]) -> Image:
    """A predicted label map on the grid of its image."""
    if labels.grid.ndim != image.grid.ndim:
        raise _UnfitError(f"it is {labels.grid.ndim}-D and the image {image.grid.ndim}-D")
    unknown = sorted(set(torch.unique(labels.data).tolist()) - set(values))
    if unknown:
        raise _UnfitError(f"it has the value {unknown[0]}, which no atlas has")
    laid = resample_labels(labels, image.grid)
    if not bool(laid.data.any()):
        raise _UnfitError("it has no structure where the image is")
    return laid
