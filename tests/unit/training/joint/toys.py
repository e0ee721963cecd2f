"""Toys of joint training: blobs with labels on some, and a recipe of seconds."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from covoxel.training.joint import JointRecipe, SegmentationAugmentation, SegmentationRecipe
from covoxel.training.registration import PairAugmentation, TrainingCase
from tests.unit.training.registration.toys import recipe as registration_recipe
from tests.unit.training.registration.toys import shifted_cases

SHAPE = (12, 10)


class Segmenter(nn.Module):
    """Two convolutions; dropout draws from torch's generator."""

    def __init__(self, labels: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(6, labels, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        said: Tensor = self.layers(image)
        return said


def segmenter(labels: int = 2, dropout: float = 0.0) -> Segmenter:
    """The toy, always with the same weights."""
    torch.manual_seed(2)
    return Segmenter(labels, dropout)


def cases(labelled: Collection[int] = (0, 1), people: int = 4) -> list[TrainingCase]:
    """Blobs of different people; those at the places `labelled` with labels."""
    everyone = [replace(case, subject="") for case in shifted_cases(SHAPE, people, labelled=True)]
    return [case if place in labelled else replace(case, labels=None) for place, case in enumerate(everyone)]


def recipe(**changes: object) -> JointRecipe:
    """A recipe of seconds."""
    settings: dict[str, object] = {
        "name": "toys",
        "method": "a test",
        "registration": registration_recipe(pairs="inter", batch=2, steps=3, supervision="labels"),
        "segmentation": SegmentationRecipe(warm_up=1, learning_rate=0.01),
        "segmentation_steps": 4,
        "joint_steps": 6,
        "ratio": 2.0,
        "check_every": 3,
    }
    return JointRecipe(**(settings | changes))  # type: ignore[arg-type]


STILL = PairAugmentation(0, 0, 0, 0, 8, 0, 0)
STILL_IMAGES = SegmentationAugmentation(0, 0, 0, 0, 8, 0, 0)
