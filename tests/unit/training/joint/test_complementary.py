"""DeepRS' three ideas, worked out by hand on one row of six voxels, and who gets a gradient of each."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from covoxel.training.joint import ComplementarySettings, DiscriminatorRecipe, JointRecipe
from covoxel.training.joint.alignment import DiscriminatorObjective, held, logits_of, surprise
from covoxel.training.joint.batch import JointPairs, pairs_of
from covoxel.training.joint.complementary import ComplementaryRegistration, ComplementarySegmentation, partway
from covoxel.training.joint.material import Material
from covoxel.training.registration import Term
from covoxel.training.registration.sampling import Chosen
from covoxel.training.seeds import generator
from nets.joint.discriminator import PatchDiscriminator
from tests.unit.training.joint.test_objective import (
    ANATOMY_FIXED_UNLABELLED,
    LABELLED,
    MOVING,
    MOVING_LABELS,
    SUPERVISED_FIXED,
    SUPERVISED_MOVING,
    Contrast,
    Shift,
    case,
    dice_loss,
    four,
    said,
)
from tests.unit.training.joint.test_objective import how as base
from tests.unit.training.registration.toys import Said

FIXED = [1, 0, 0, 0, 1, 0]
MOVED = [1, 1, 0, 0, 0]
"""The moving row, [0, 1, 1, 0, 0, 0], seen one voxel on; of the sixth voxel nothing is seen."""
D = [0.75, 0.25, 0.75, 0.75, 0.25]
"""Confidence in the alignment of both: little where they differ."""


class Alike(nn.Module):
    """Sure to three quarters, at each voxel, that equal images are aligned, and that images 1 apart are not."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, candidate: Tensor, fixed: Tensor) -> Tensor:
        return math.log(3) * (1 - 2 * (candidate - fixed).abs()) + self.shift


def how(**settings: object) -> JointRecipe:
    return replace(base(), complementary=ComplementarySettings(**settings))  # type: ignore[arg-type]


def pairs(*labelled: tuple[bool, bool]) -> JointPairs:
    """A pair for each, of which fixed and moving image are labelled or not."""
    found = []
    for number, (fixed, moving) in enumerate(labelled):
        found.append(case(f"f{number}", FIXED, FIXED if fixed else None))
        found.append(case(f"m{number}", MOVING, MOVING_LABELS if moving else None))
    chosen = [Chosen(2 * number, 2 * number + 1) for number in range(len(labelled))]
    return pairs_of(Material(found, 2), chosen, "cpu")


def of_segmentation(some: JointPairs, recipe: JointRecipe) -> tuple[dict[str, Tensor], list[nn.Module]]:
    objective, network = ComplementarySegmentation(recipe), Contrast()
    objective.registrar, objective.discriminator = Shift(), Alike()
    return objective(network, some), [network, objective.registrar, objective.discriminator]


def of_registration(some: JointPairs, recipe: JointRecipe) -> tuple[dict[str, Tensor], list[nn.Module]]:
    objective, network = ComplementaryRegistration(recipe, (1.0, 1.0)), Shift()
    objective.segmenter, objective.discriminator = Contrast(), Alike()
    return objective(network, some), [network, objective.segmenter, objective.discriminator]


def learning(loss: Tensor, networks: list[nn.Module]) -> list[bool]:
    """Which of them get a gradient."""
    loss.sum().backward()  # type: ignore[no-untyped-call]
    gradients = [next(network.parameters()).grad for network in networks]
    return [gradient is not None and bool(gradient.abs() > 1e-4) for gradient in gradients]


# Deformation sampling


def test_labels_that_teach_are_moved_partway_with_their_image() -> None:
    """Half a voxel: each is the mean of two neighbours. All else is compared as without it."""
    halfway = replace(four(), alpha=torch.full((4,), 0.5))
    parts, networks = of_segmentation(halfway, how(sampling=(0.0, 1.0)))
    seen = [0.5, 0.75, 0.5, 0.25, 0.25, 0.25]  # of intensities [1/2, 1, 1/2, 0, 0, 0]
    supervised = [dice_loss(seen, [0, 0.5, 1, 0.5, 0, 0]), SUPERVISED_FIXED, SUPERVISED_MOVING, 0.0]
    assert_close(parts["supervised"], 5 * torch.tensor(supervised))
    assert_close(parts["anatomy"][0], torch.tensor(2 * ANATOMY_FIXED_UNLABELLED))
    assert_close(parts["confidence"], torch.zeros(4))
    assert learning(parts["supervised"], networks) == [True, False, False]


def test_none_of_the_displacement_is_the_image_itself_and_all_of_it_the_moved_one() -> None:
    one = four([LABELLED[0]] * 2)
    parts, _ = of_segmentation(replace(one, alpha=torch.tensor([0.0, 1.0])), how(sampling=(0.0, 1.0)))
    moved = dice_loss(said(MOVED), MOVING_LABELS[1:])  # type: ignore[arg-type]
    assert_close(parts["supervised"], 5 * torch.tensor([SUPERVISED_MOVING, moved]))


def test_each_pair_draws_its_share_between_the_limits() -> None:
    some = pairs(*LABELLED * 50)
    settings = ComplementarySettings(sampling=(0.25, 0.5))
    alpha = partway(some, settings, generator(3)).alpha
    assert alpha is not None
    assert len(set(alpha.tolist())) == 200
    assert 0.25 <= alpha.min() < 0.26
    assert 0.49 < alpha.max() <= 0.5
    assert torch.equal(alpha, partway(some, settings, generator(3)).alpha)  # type: ignore[arg-type]
    assert partway(some, ComplementarySettings(region_weight=1.0), generator(3)).alpha is None
    assert partway(some, None, generator(3)) is some


def test_the_share_stays_with_its_pair() -> None:
    some = replace(four(), alpha=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert some.rows(slice(1, 3)).alpha.tolist() == pytest.approx([0.2, 0.3])  # type: ignore[union-attr]
    assert some.at([3, 0]).alpha.tolist() == pytest.approx([0.4, 0.1])  # type: ignore[union-attr]


# Alignment confidence


def entropy(said: list[float], truth: list[int]) -> list[float]:
    return [-math.log(s if t else 1 - s) for s, t in zip(said, truth, strict=True)]


def test_carried_labels_are_truth_as_far_as_the_discriminator_is_confident() -> None:
    parts, networks = of_segmentation(pairs(*LABELLED), how(confidence_weight=6.0))
    wrong = entropy(said(FIXED)[:5], MOVING_LABELS[1:])
    loss = 6 * sum(d * w for d, w in zip(D, wrong, strict=True)) / 5
    assert_close(parts["confidence"], torch.tensor([loss, 0, 0, 0]))
    assert learning(parts["confidence"], networks) == [True, False, False]


def test_little_confidence_everywhere_is_little_to_learn() -> None:
    recipe = how(confidence_weight=1.0, confidence=Term("soft_dice", 2.0))
    objective = ComplementarySegmentation(recipe)
    objective.registrar, objective.discriminator = Shift(), Alike()
    some = pairs((False, True))
    some = replace(some, fixed=replace(some.fixed, image=some.moving.image.roll(-1, -1)))  # aligned everywhere
    losses = []
    for confidence in (0.8, 0.2):
        nn.init.constant_(objective.discriminator.shift, math.log(confidence / (1 - confidence)) - math.log(3))
        losses.append(float(objective(Contrast(), some)["confidence"].detach()))
    expected = 2 * dice_loss(said(MOVED), MOVING_LABELS[1:])  # type: ignore[arg-type]
    assert losses == pytest.approx([0.8 * expected, 0.2 * expected], rel=1e-4)


def test_the_registration_pays_for_pairs_that_look_misaligned() -> None:
    parts, networks = of_registration(pairs((True, True), (False, False)), how(adversarial_weight=3.0))
    assert "region" not in parts
    assert_close(parts["adversarial"], torch.tensor([-3 * sum(map(math.log, D)) / 5] * 2))
    assert learning(parts["adversarial"], networks) == [True, False, False]


def test_the_discriminator_learns_what_is_mixed_and_what_was_moved() -> None:
    recipe = how(adversarial_weight=1.0, discriminator=DiscriminatorRecipe(mixed_share=0.25))
    objective, network = DiscriminatorObjective(recipe), Alike()
    objective.registrar = registrar = Shift()
    parts = objective(network, pairs((False, False)))
    apart = [abs(f - m) for f, m in zip(FIXED, MOVING, strict=True)]
    mixed = [math.log(1 + math.exp(-math.log(3) * (1 - 2 * 0.25 * a))) for a in apart]
    assert_close(parts["mixed"], torch.tensor([sum(mixed) / 6]))
    assert_close(parts["moved"], torch.tensor([-sum(math.log(1 - d) for d in D) / 5]))
    assert learning(parts["mixed"] + 2 * parts["moved"], [network, registrar]) == [True, False]


def test_cells_count_by_what_is_seen_of_them() -> None:
    logits = torch.tensor([[[[0.0, math.log(3), 5.0]]]])
    mask = torch.tensor([[[[1.0, 1, 1, 0, 0], [1, 1, 1, 0, 0]]]])  # cells of two: whole, half and unseen
    loss = surprise(logits, 2, mask, aligned=True)
    assert_close(loss, torch.tensor([(math.log(2) + 0.5 * math.log(4 / 3)) / 1.5]))


def test_the_confidence_is_that_of_the_patch_discriminator() -> None:
    torch.manual_seed(0)
    discriminator, images = PatchDiscriminator(2, widths=(4, 4), width=4), torch.rand(2, 2, 1, 13, 10)
    objective = ComplementarySegmentation(how(confidence_weight=1.0))
    objective.discriminator = discriminator
    assert_close(objective.alignment(*images), discriminator.confidence(*images).detach())
    logits, factor = logits_of(discriminator, *images)
    assert (tuple(logits.shape), factor) == ((2, 1, 4, 3), 4)
    with pytest.raises(ValueError, match=r"the discriminator must say logits of \(2, 1, 'cells', 'cells'\), got"):
        logits_of(lambda *_: torch.zeros(2, 2, 4, 3), *images)  # type: ignore[arg-type]


# Region constraint


def test_regions_agree_without_a_label_and_the_square_is_positive() -> None:
    parts, networks = of_registration(pairs((False, False), (True, True)), how(region_weight=10.0))
    assert "adversarial" not in parts
    two_voxels = 2 * (0.75 - 0.25) ** 2 * 2 / 5  # differ, in two labels, of five that are seen
    assert_close(parts["region"], torch.tensor([10 * two_voxels] * 2))
    assert learning(parts["region"], networks) == [True, False, False]
    alike = pairs((False, False))
    alike = replace(alike, fixed=replace(alike.fixed, image=alike.moving.image.roll(-1, -1)))
    assert_close(of_registration(alike, how(region_weight=10.0))[0]["region"], torch.zeros(1))


class ByLikeness(Shift):
    """The more two images differ, the further it moves them: moved ones are said to be elsewhere."""

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        apart = (fixed - moving).abs().flatten(1).mean(1).view(-1, 1, 1, 1)
        return Said(super().forward(fixed, moving).displacement_vox * (0.5 + apart))


def test_of_pairs_registered_in_both_directions_and_again_the_first_answer_is_meant() -> None:
    there = how(region_weight=10.0, adversarial_weight=3.0)
    both = replace(there, registration=replace(there.registration, consistency=(Term("cycle"),)))
    found = []
    for recipe in (there, both):
        objective = ComplementaryRegistration(recipe, (1.0, 1.0))
        objective.segmenter, objective.discriminator = Contrast(), Alike()
        found.append(objective(ByLikeness(), pairs((False, False), (True, True))))
    assert "consistency" in found[1]
    for name in ("region", "adversarial"):
        assert_close(found[0][name], found[1][name])


# Trouble


def test_a_network_that_is_held_learns_again_afterwards() -> None:
    network = Contrast().train()
    frozen_part = nn.Parameter(torch.zeros(1), requires_grad=False)
    network.register_parameter("fixed_part", frozen_part)

    def fail() -> None:
        with held(network, torch.zeros(1)) as inside:
            assert not inside.training
            assert not any(parameter.requires_grad for parameter in inside.parameters())
            raise RuntimeError("oh")

    with pytest.raises(RuntimeError, match="oh"):
        fail()
    assert network.shift.requires_grad
    assert not frozen_part.requires_grad


def test_a_displacement_that_is_no_number_is_seen_by_each_network() -> None:
    class Broken(Shift):
        def forward(self, fixed: Tensor, moving: Tensor) -> Said:
            field = super().forward(fixed, moving).displacement_vox.clone()
            field[0, 0, 0, 0] = torch.inf
            return Said(field)

    recipe = replace(how(sampling=(0.0, 1.0), adversarial_weight=1.0), anatomy_weight=0.0)
    some = replace(pairs((False, True), (False, True)), alpha=torch.tensor([0.5, 0.5]))
    segmentation, alignment = ComplementarySegmentation(recipe), DiscriminatorObjective(recipe)
    segmentation.registrar = alignment.registrar = Broken()
    for parts in (segmentation(Contrast(), some), alignment(Alike(), some)):
        assert torch.stack(list(parts.values())).sum(0).isfinite().tolist() == [False, True]


def test_no_part_is_left_out_of_single_images() -> None:
    recipe = how(sampling=(0.0, 1.0), confidence_weight=1.0)
    assert ComplementarySegmentation(recipe).parts == ("supervised", "fused", "anatomy", "confidence")
    images = ComplementarySegmentation(recipe)(Contrast(), pairs((False, True)).moving)
    assert_close(images["supervised"], torch.tensor([5 * SUPERVISED_MOVING]))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, "complementary must be null, or have sampling or one of confidence_weight, adversarial_weight, region_w"),
        ({"sampling": (0.5, 0.2)}, "complementary.sampling must be two numbers from 0 to 1, the smaller first"),
        ({"sampling": (0.0, 1.5)}, "complementary.sampling must be two numbers from 0 to 1, the smaller first"),
        ({"region_weight": -1.0}, "complementary.region_weight must be finite and not negative, got -1.0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ComplementarySettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"mixed_share": 1.0}, "complementary.discriminator.mixed_share must be at least 0 and below 1"),
        ({"ratio": 0.0}, "complementary.discriminator.ratio must be finite and positive"),
        ({"batch": 0}, "complementary.discriminator.batch must be a whole number, 1 or more"),
        ({"decay": "linear"}, "complementary.discriminator.decay must be one of"),
    ],
)
def test_so_are_those_of_the_discriminator(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        DiscriminatorRecipe(**settings)  # type: ignore[arg-type]


def test_a_recipe_says_whether_anything_is_carried_over() -> None:
    assert base().complementary is None
    assert not base().has_discriminator
    assert base().carries
    assert not base(anatomy_weight=0.0).carries
    assert replace(how(sampling=(0.0, 1.0)), anatomy_weight=0.0).carries
