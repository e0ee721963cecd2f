"""The four cases, worked out by hand on one row of six voxels, and who gets a gradient in each."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from covoxel.training.joint import FusedLabels, JointRecipe, SegmentationRecipe
from covoxel.training.joint.batch import JointPairs, images_of, pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint.objective import RegistrationObjective, SegmentationObjective
from covoxel.training.registration import Term, TrainingCase
from covoxel.training.registration.sampling import Chosen
from tests.unit.training.joint.toys import recipe
from tests.unit.training.registration.toys import Said
from tests.unit.training.registration.toys import recipe as registration_recipe

P = 0.75
"""What the segmenter says of label 1 wherever the image is 1, and of background elsewhere."""


class Contrast(nn.Module):
    """Probability `P` of label 1 where the image is 1, `1 - P` where it is 0; one parameter, at nought."""

    def __init__(self, labels: int = 2) -> None:
        super().__init__()
        self.shift, self.labels, self.asked = nn.Parameter(torch.zeros(())), labels, 0

    def forward(self, image: Tensor) -> Tensor:
        self.asked += image.shape[0]
        logit = (2 * image - 1) * torch.log(torch.tensor(P / (1 - P))) + self.shift
        return torch.cat([torch.zeros_like(logit), logit, *[torch.full_like(logit, -50.0)] * (self.labels - 2)], 1)


class Shift(nn.Module):
    """Every voxel comes from the next one along the row; one parameter, at nought."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.asked = 0

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        self.asked += fixed.shape[0]
        field = torch.stack([torch.zeros_like(fixed[:, 0]), torch.ones_like(fixed[:, 0])], 1)
        return Said(field * self.scale)


def case(name: str, row: list[int], labels: list[int] | None) -> TrainingCase:
    """Two rows that are alike."""
    image = torch.tensor([row, row]).float()
    truth = None if labels is None else torch.tensor([labels, labels])
    return TrainingCase(name, image, torch.ones((2, 6), dtype=torch.bool), truth)


# The last two voxels of the fixed row see the moving ones 5 and 6: voxel 6 does not exist, and the mask is 0 there.
MOVING, FIXED = [0, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]
MOVING_LABELS, FIXED_LABELS = [0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]


def dice_loss(said: list[float], truth: list[float], weight: list[float] | None = None) -> float:
    """One minus soft Dice, as in a school book."""
    weight = weight or [1.0] * len(said)
    both = sum(s * t * w for s, t, w in zip(said, truth, weight, strict=True))
    return 1 - 2 * both / sum((s + t) * w for s, t, w in zip(said, truth, weight, strict=True))


def said(row: list[int]) -> list[float]:
    return [P if value else 1 - P for value in row]


SUPERVISED_MOVING = dice_loss(said(MOVING), MOVING_LABELS)  # type: ignore[arg-type]
SUPERVISED_FIXED = dice_loss(said(FIXED), FIXED_LABELS)  # type: ignore[arg-type]
SEEN = [1.0, 1, 1, 1, 1, 0]
ANATOMY_FIXED_UNLABELLED = dice_loss(said(FIXED), [*MOVING_LABELS[1:], 0], SEEN)
ANATOMY_MOVING_UNLABELLED = dice_loss([*said(MOVING)[1:], 0], FIXED_LABELS, SEEN)  # type: ignore[arg-type]
ANATOMY_BOTH = dice_loss([*MOVING_LABELS[1:], 0], FIXED_LABELS, SEEN)  # type: ignore[arg-type]
ANATOMY_NONE = dice_loss([*said(MOVING)[1:], 0], said(FIXED), SEEN)

LABELLED = [(False, True), (True, False), (True, True), (False, False)]
"""Whether fixed and moving are labelled, of the four cases of the reference in its order."""


def how(**changes: object) -> JointRecipe:
    dice = SegmentationRecipe(supervised=(Term("soft_dice"),), anatomy=Term("soft_dice", 0.5))
    registration = registration_recipe(
        pairs="inter", regularisers=(), similarity=Term("mse", 0.0), labels=Term("soft_dice", 3.0)
    )
    weights = {"anatomy_weight": 4.0, "supervised_weight": 5.0, "fused_weight": 7.0}
    return recipe(**({"segmentation": dice, "registration": registration} | weights | changes))


def four(order: list[tuple[bool, bool]] | None = None) -> JointPairs:
    """A pair of each case."""
    found = []
    for number, (fixed, moving) in enumerate(order or LABELLED):
        found.append(case(f"f{number}", FIXED, FIXED_LABELS if fixed else None))
        found.append(case(f"m{number}", MOVING, MOVING_LABELS if moving else None))
    chosen = [Chosen(2 * number, 2 * number + 1) for number in range(len(found) // 2)]
    return pairs_of(Material(found, 2), chosen, "cpu")


def of_segmentation(pairs: JointPairs, network: nn.Module, recipe: JointRecipe | None = None) -> dict[str, Tensor]:
    objective = SegmentationObjective(recipe or how())
    objective.registrar = Shift()
    return objective(network, pairs)


def test_the_segmenter_learns_as_the_four_cases_say() -> None:
    parts = of_segmentation(four(), Contrast())
    supervised = [SUPERVISED_MOVING, SUPERVISED_FIXED, SUPERVISED_MOVING, 0.0]
    assert_close(parts["supervised"], 5 * torch.tensor(supervised))
    assert_close(parts["anatomy"], 2 * torch.tensor([ANATOMY_FIXED_UNLABELLED, ANATOMY_MOVING_UNLABELLED, 0.0, 0.0]))
    assert_close(parts["fused"], torch.zeros(4))


@pytest.mark.parametrize("row", range(4))
def test_the_gradient_of_the_segmenter_is_that_of_its_terms_alone(row: int) -> None:
    """Both labelled: as if there were no anatomy loss. None labelled: nought. Else both terms pull."""
    network, pairs = Contrast(), four([LABELLED[row]])
    objective = SegmentationObjective(how())
    objective.registrar = registrar = Shift()
    parts = objective(network, pairs)
    whole = torch.autograd.grad(parts["anatomy"].sum() + parts["supervised"].sum(), network.shift, retain_graph=True)[0]
    supervised = torch.autograd.grad(parts["supervised"].sum(), network.shift, allow_unused=True)[0]
    anatomy = whole - (0 if supervised is None else supervised)
    assert (anatomy.abs() > 1e-3) == (row < 2)
    assert (whole.abs() > 1e-3) == (row < 3)
    assert registrar.asked == (1 if row < 2 else 0)
    assert network.asked == [2, 2, 1, 0][row]
    assert registrar.scale.grad is None


def test_what_is_carried_over_is_the_truth_and_what_the_segmenter_says_is_measured() -> None:
    """Cross-entropy tells one from the other: of the moved segmentation, too, the true fixed labels are the truth."""
    recipe = how(segmentation=SegmentationRecipe(supervised=(Term("soft_dice"),), anatomy=Term("cross_entropy")))
    parts = of_segmentation(four(LABELLED[:2]), Contrast(), recipe)

    def entropy(said: list[float], truth: list[int]) -> float:
        return -sum(math.log(s if t else 1 - s) for s, t in zip(said, truth, strict=True)) / len(truth)

    fixed = entropy(said(FIXED)[:5], MOVING_LABELS[1:])
    moving = entropy(said(MOVING)[1:], FIXED_LABELS[:5])
    assert_close(parts["anatomy"], 4 * torch.tensor([fixed, moving]))


def test_no_gradient_reaches_the_frozen_registration() -> None:
    objective = SegmentationObjective(how())
    objective.registrar = registrar = Shift()
    network = Contrast()
    objective(network, four())["anatomy"].sum().backward()  # type: ignore[no-untyped-call]
    assert network.shift.grad is not None
    assert network.shift.grad.abs() > 0
    assert registrar.scale.grad is None


def test_a_batch_that_teaches_nothing_has_a_gradient_of_nought() -> None:
    network = Contrast()
    parts = of_segmentation(four([(False, False)] * 2), network)
    torch.stack(list(parts.values())).sum().backward()
    assert network.shift.grad == 0


def of_registration(
    pairs: JointPairs, recipe: JointRecipe | None = None, labels: int = 2
) -> tuple[dict[str, Tensor], Contrast, Shift]:
    objective = RegistrationObjective(recipe or how(), (1.0, 1.0))
    objective.segmenter, network = Contrast(labels), Shift()
    return objective(network, pairs), objective.segmenter, network


def test_the_registration_compares_true_labels_where_there_are_and_predictions_where_not() -> None:
    parts, segmenter, network = of_registration(four())
    expected = [ANATOMY_FIXED_UNLABELLED, ANATOMY_MOVING_UNLABELLED, ANATOMY_BOTH, ANATOMY_NONE]
    assert_close(parts["labels"], 3 * torch.tensor(expected))
    assert segmenter.asked == 4
    parts["labels"].sum().backward()  # type: ignore[no-untyped-call]
    assert network.scale.grad is not None
    assert network.scale.grad.abs() > 0
    assert segmenter.shift.grad is None


def test_a_pair_without_a_true_label_can_be_left_to_its_images() -> None:
    parts, segmenter, _ = of_registration(four(), how(predicted_pairs=False))
    assert_close(parts["labels"][3], torch.tensor(0.0))
    assert parts["labels"][:3].min() > 0
    assert segmenter.asked == 2
    with pytest.raises(ValueError, match=r"true labels must come first, got \[0, 2\]"):
        of_registration(four([(False, False), (True, True)]), how(predicted_pairs=False))


def test_labels_of_no_weight_are_asked_of_nobody() -> None:
    recipe = how()
    parts, segmenter, _ = of_registration(
        four(), replace(recipe, registration=replace(recipe.registration, labels=Term("soft_dice", 0.0)))
    )
    assert "labels" not in parts
    assert segmenter.asked == 0


# Structures that are not known


class Sure(nn.Module):
    """Sure of label 1 where the image is 1, of label 2 at some voxels, and of background elsewhere."""

    def __init__(self, second: list[int]) -> None:
        super().__init__()
        self.shift, self.second = nn.Parameter(torch.zeros(())), torch.tensor(second).float()

    def forward(self, image: Tensor) -> Tensor:
        first = 16 * image - 8 + self.shift
        return torch.cat([torch.zeros_like(image), first, 40 * self.second.expand_as(image) - 20], 1)


@pytest.mark.parametrize("told", [{1}, {1, 2}])
def test_a_structure_that_labels_do_not_tell_is_not_punished(told: set[int]) -> None:
    """No label of the case is 2. Said in place of background it costs nothing unless it is known not to be there."""
    material = Material([case("a", MOVING, MOVING), case("b", FIXED, None)], 3, known={"a": told})
    recipe = how(segmentation=SegmentationRecipe(supervised=(Term("cross_entropy"),), anatomy=Term("cross_entropy")))
    pairs = pairs_of(material, [Chosen(0, 1), Chosen(1, 0)], "cpu")
    none, background, structure = (
        of_segmentation(pairs, Sure(second), recipe) for second in ([0] * 6, [0, 0, 0, 0, 1, 1], [0, 1, 1, 0, 0, 0])
    )
    for part in ("supervised", "anatomy"):
        assert torch.allclose(background[part], none[part], atol=0.01) == (told == {1})
    assert (structure["supervised"] > none["supervised"] + 1).all()  # in place of one that is told it is wrong anyway


def test_both_labelled_pairs_compare_what_both_know() -> None:
    """The moving labels tell 1 and 2, the fixed ones 1 alone: 2 is background, and 1 is compared as ever."""
    material = Material([case("f", FIXED, FIXED_LABELS), case("m", MOVING, [0, 2, 1, 1, 2, 0])], 3, known={"f": {1}})
    parts, _, _ = of_registration(pairs_of(material, [Chosen(0, 1)], "cpu"), labels=3)
    assert_close(parts["labels"], 3 * torch.tensor([ANATOMY_BOTH]))
    both = Material(material.cases, 3, known={"f": {1, 2}})
    parts, _, _ = of_registration(pairs_of(both, [Chosen(0, 1)], "cpu"), labels=3)
    assert_close(parts["labels"], 3 * torch.tensor([(ANATOMY_BOTH + 1) / 2]))


# Fused labels


def test_fused_labels_teach_by_their_confidence() -> None:
    soft = torch.tensor([[[0.1, 0.9, 0.6, 0, 0, 0]] * 2])
    confidence = torch.tensor([[1.0, 0.5, 0.25, 1, 1, 0]] * 2)
    fused = {"f": FusedLabels(torch.cat([1 - soft, soft]), confidence)}
    material = Material([case("f", FIXED, None), case("m", MOVING, MOVING_LABELS), case("n", MOVING, None)], 2, fused)
    network = Contrast()
    parts = of_segmentation(pairs_of(material, [Chosen(0, 1), Chosen(0, 2), Chosen(2, 0)], "cpu"), network)
    loss = 7 * dice_loss(said(FIXED), soft[0, 0].tolist(), confidence[0].tolist())
    assert_close(parts["fused"], torch.tensor([loss] * 3))
    assert_close(parts["supervised"], 5 * torch.tensor([SUPERVISED_MOVING, 0, 0]))
    assert_close(parts["anatomy"], 2 * torch.tensor([ANATOMY_FIXED_UNLABELLED, 0, 0]))
    assert network.asked == 4
    single = SegmentationObjective(how())(network, images_of(material, [1, 0, 2], "cpu"))
    assert_close(single["supervised"], 5 * torch.tensor([SUPERVISED_MOVING, 0, 0]))
    assert_close(single["fused"], torch.tensor([0, loss, 0]))
    off = SegmentationObjective(how(fused_weight=0.0))(network, images_of(material, [0], "cpu"))
    assert not any(part.abs().max() for part in off.values())


def test_hard_fused_labels_are_as_probabilities_of_nought_and_one() -> None:
    hard = Material([case("f", FIXED, None)], 3, {"f": FusedLabels(torch.tensor([[0, 1, 2, 2, 0, 0]] * 2))})
    foreground, weight, known = hard.labels(0)
    assert foreground[:, 0].tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert weight.min() == known.min() == 1


# Trouble


def test_a_displacement_that_is_no_number_is_seen_before_there_is_a_gradient() -> None:
    class Broken(Shift):
        def forward(self, fixed: Tensor, moving: Tensor) -> Said:
            field = super().forward(fixed, moving).displacement_vox.clone()
            field[0, 0, 0, 0] = torch.inf
            return Said(field)

    objective = SegmentationObjective(how())
    objective.registrar = Broken()
    parts = objective(Contrast(), four([(True, False), (True, False)]))
    assert parts["anatomy"].isfinite().tolist() == [False, True]


def test_a_segmenter_of_other_labels_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"must say logits of \(2, 2, 2, 6\), got \(2, 3, 2, 6\)"):
        of_segmentation(four([(True, False)]), Contrast(3))


def test_the_other_network_is_asked_out_of_training() -> None:
    segmentation, registration = SegmentationObjective(how()), RegistrationObjective(how(), (1.0, 1.0))
    segmentation.registrar, registration.segmenter = Shift().train(), Contrast().train()
    pairs = four([(True, False)])
    segmentation(Contrast(), pairs)
    registration(Shift(), pairs)
    assert not segmentation.registrar.training
    assert not registration.segmenter.training
