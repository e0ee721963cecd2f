"""Planted trouble: a registration whose sign was lost misleads the segmenter, the alarm sees it without an atlas."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint import (
    FusedLabels,
    JointRecipe,
    SegmentationRecipe,
    TrainedJoint,
    Verdict,
    compare,
    score,
    score_against_fused,
    train_joint,
)
from covoxel.training.registration import Term, TrainingCase, train_registration
from tests.unit.training.joint.toys import STILL, STILL_IMAGES, recipe, segmenter
from tests.unit.training.registration.toys import Said, blob, toy
from tests.unit.training.registration.toys import recipe as registration_recipe

SHAPE = (16, 16)
LABELLED = (0, 3)


def apart() -> list[TrainingCase]:
    """Blobs up to four voxels from each other, all with labels."""
    everyone = []
    for number in range(8):
        image = blob(SHAPE, torch.tensor([7.5, 5.5 + 1.4 * (number % 4)]))
        mask = torch.ones(SHAPE, dtype=torch.bool)
        everyone.append(TrainingCase(f"c{number}", image, mask, (image > 0.5).long()))
    return everyone


EVERYONE = apart()
CASES = [case if place in LABELLED else replace(case, labels=None) for place, case in enumerate(EVERYONE)]
FUSED = {
    case.id: FusedLabels((case.image > 0.5).long(), (0.5 + 2 * (case.image - 0.5).abs()).clamp(max=1))
    for case in CASES
    if case.labels is None
}


class Mirrored(nn.Module):
    """Says the opposite of what its network has learnt, wherever it is used; in training nobody sees it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        displacement = self.inner(fixed, moving).displacement_vox
        return Said(displacement if self.training else -displacement)


def how(**changes: object) -> JointRecipe:
    """Much is learnt from what is carried over; fused labels teach nobody, so that they can judge."""
    registration = registration_recipe(
        pairs="inter", batch=4, steps=80, supervision="labels", similarity=Term("mse", 30.0), augmentation=STILL,
        learning_rate=0.02,
    )  # fmt: skip
    segmentation = SegmentationRecipe(warm_up=5, learning_rate=0.03, augmentation=STILL_IMAGES)
    settings: dict[str, object] = {
        "registration": registration, "segmentation": segmentation, "registration_steps": 0, "segmentation_steps": 60,
        "joint_steps": 60, "ratio": 0.5, "joint_rate": 1.0, "anatomy_weight": 50.0, "fused_weight": 0.0,
        "check_every": 100,
    }  # fmt: skip
    return recipe(**(settings | changes))


@pytest.fixture(scope="module")
def registration() -> nn.Module:
    return train_registration(toy(), EVERYONE, how().registration, values=2).network


def train(registration: nn.Module, **changes: object) -> TrainedJoint:
    return train_joint(copy.deepcopy(registration), segmenter(), CASES, how(**changes), values=2)


def judged(trained: TrainedJoint) -> Verdict:
    """By fused labels, as there is no atlas to spare."""
    assert trained.segmentation is not None
    assert trained.segmentation_alone is not None
    joint, alone = (
        score_against_fused(network, CASES, FUSED, 2) for network in (trained.segmentation, trained.segmentation_alone)
    )
    (verdict,) = compare(joint, alone, names={1: "blob"}, truth="fused")
    return verdict


def used(trained: TrainedJoint) -> nn.Module:
    """The network that the verdict says."""
    network = trained.segmentation if judged(trained).use == "joint" else trained.segmentation_alone
    assert network is not None
    return network


def quality(network: nn.Module) -> float:
    return float(score(network, EVERYONE, 2)[1].mean())


def test_with_the_right_sign_there_is_no_alarm(registration: nn.Module) -> None:
    trained = train(registration)
    assert not judged(trained).alarming
    assert quality(used(trained)) > 0.9


def test_with_the_wrong_sign_the_alarm_fires_and_the_fallback_is_as_good_as_segmentation_alone(
    registration: nn.Module,
) -> None:
    trained = train(Mirrored(registration))
    verdict = judged(trained)
    assert verdict.alarming
    assert verdict.cases == 6
    assert verdict.sentence.startswith("blob: joint minus separate agreement with fused labels -0.")
    assert verdict.sentence.endswith(" on 6 cases: joint training hurts, the separate network is used")
    alone = train(registration, joint_steps=0)
    assert alone.segmentation is not None
    assert trained.segmentation is not None
    assert quality(trained.segmentation) < quality(alone.segmentation) - 0.1
    assert quality(used(trained)) == pytest.approx(quality(alone.segmentation), abs=0.01)
