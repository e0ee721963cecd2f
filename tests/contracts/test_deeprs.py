"""The recipe of DeepRS with its discriminator learns in a step of each network, in 2-D and 3-D."""

from dataclasses import replace

import pytest
import torch

from covoxel.training.joint import JointRecipe, train_joint
from covoxel.training.registration import TrainingCase
from tasks.joint_recipe import build_networks, load_joint_recipe
from tasks.recipe_files import find_joint_recipe
from tests.unit.training.registration.toys import blob

SHAPE = {2: (18, 15), 3: (12, 11, 10)}
VALUES = 3


def cases(ndim: int) -> list[TrainingCase]:
    """Blobs of four people, two of them labelled; the middle of a blob is a structure of its own."""
    everyone = []
    for number in range(4):
        image = blob(SHAPE[ndim], torch.tensor([4.0 + number, *[5.0] * (ndim - 1)]), width=3.0)
        labels = (image > 0.5).long() + (image > 0.9).long()
        mask = torch.ones(SHAPE[ndim], dtype=torch.bool)
        everyone.append(TrainingCase(f"c{number}", image, mask, labels if number < 2 else None))
    return everyone


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_recipe_of_deeprs_trains_three_networks(ndim: int) -> None:
    whole = load_joint_recipe(find_joint_recipe("deeprs"))
    assert isinstance(whole, JointRecipe)
    recipe = replace(whole, registration_steps=0, segmentation_steps=0, joint_steps=4, held_out=0, check_every=4)
    registration, segmentation, discriminator = build_networks(recipe, ndim, VALUES)
    assert discriminator is not None
    networks = (registration, segmentation, discriminator)
    before = [{name: part.clone() for name, part in network.state_dict().items()} for network in networks]
    trained = train_joint(registration, segmentation, cases(ndim), recipe, values=VALUES, discriminator=discriminator)
    row = trained.curve.iloc[-1]
    for part in (
        "registration_similarity", "registration_regularity", "registration_adversarial", "registration_region",
        "segmentation_supervised", "segmentation_confidence", "discriminator_mixed", "discriminator_moved",
    ):  # fmt: skip
        assert torch.tensor(float(row[part])).isfinite(), part
    assert "registration_labels" not in trained.curve
    assert row["segmentation_anatomy"] == 0
    for network, old in zip(networks, before, strict=True):
        after = network.state_dict()
        assert all(part.isfinite().all() for part in after.values())
        assert sum(not torch.equal(part, old[name]) for name, part in after.items()) > 0.75 * len(after)
