"""Labels handed to an engine must fit the images they belong to."""

from typing import Any

import pytest
import torch
from torch import Tensor

from covoxel.registration import PairModel, register
from covoxel.spatial import Grid, Image

IMAGES = [Image(torch.rand(shape), Grid.from_spacing(shape)) for shape in ((14, 12), (11, 13))]
STILL = PairModel(lambda fixed, moving: fixed.new_zeros(len(moving), 2, *fixed.shape[2:]))


def probabilities(labels: int, *shape: int) -> Tensor:
    return torch.full((labels, *shape), 1 / labels)


FIXED, MOVING = probabilities(3, 14, 12), probabilities(3, 11, 13)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fixed_labels": FIXED}, "moving_labels must be one for each of 1 moving images, got 0"),
        ({"moving_labels": [MOVING]}, "fixed_labels must be given with moving_labels, got None"),
        ({"fixed_labels": FIXED, "moving_labels": [MOVING] * 2}, "one for each of 1 moving images, got 2"),
        ({"fixed_labels": FIXED[:2], "moving_labels": [MOVING]}, r"moving_labels must be \(2, 11, 13\)"),
        ({"fixed_labels": MOVING, "moving_labels": [MOVING]}, r"fixed_labels must be \(3, 14, 12\)"),
        ({"fixed_labels": FIXED[:1], "moving_labels": [MOVING[:1]]}, "two labels or more"),
        ({"drive": "labels"}, "drive = 'labels' needs labels of the fixed and of all moving images"),
    ],
)
def test_labels_that_do_not_fit_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        register("learned+svf", IMAGES[0], IMAGES[1:], model=STILL, **given)


def test_an_engine_that_labels_do_not_drive_takes_none() -> None:
    with pytest.raises(ValueError, match="fixed_labels cannot drive the engine 'svf'"):
        register("svf", IMAGES[0], IMAGES[1:], fixed_labels=FIXED, moving_labels=[MOVING])


def test_labels_without_their_drive_change_nothing() -> None:
    settings: dict[str, Any] = {"model": STILL, "iterations": (3, 2)}
    (without,) = register("learned+svf", IMAGES[0], IMAGES[1:], **settings)
    (found,) = register("learned+svf", IMAGES[0], IMAGES[1:], fixed_labels=FIXED, moving_labels=[MOVING], **settings)
    assert without.displacement_mm is not None
    assert found.displacement_mm is not None
    assert torch.equal(without.displacement_mm, found.displacement_mm)
