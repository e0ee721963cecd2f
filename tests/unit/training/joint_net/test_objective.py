"""What there is of a pair, worked out by hand on one row of six voxels, and who gets a gradient of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.training.joint import FusedLabels
from covoxel.training.joint.batch import pairs_of
from covoxel.training.joint.material import Given, Material
from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.joint_net.answer import ask
from covoxel.training.joint_net.batch import ShownPairs, shown_of
from covoxel.training.joint_net.objective import JointNetObjective
from covoxel.training.registration import Term
from covoxel.training.registration.sampling import Chosen
from tests.unit.training.joint_net.toys import (
    FIXED,
    FIXED_LABELS,
    MOVING,
    MOVING_LABELS,
    SEEN,
    ByHand,
    Joint,
    case,
    dice_loss,
    net,
    recipe,
    said_of,
)
from tests.unit.training.registration.toys import Said

LABELLED = [(True, True), (False, True), (True, False), (False, False)]
"""Whether fixed and moving are labelled."""

MOVED = [*MOVING_LABELS[1:], 0]
SUPERVISED_FIXED = dice_loss(said_of(FIXED), FIXED_LABELS)  # type: ignore[arg-type]
SUPERVISED_MOVING = dice_loss(said_of(MOVING), MOVING_LABELS)  # type: ignore[arg-type]
PROPAGATED = dice_loss(MOVED, FIXED_LABELS, SEEN)  # type: ignore[arg-type]
AGREEMENT = dice_loss(said_of(FIXED), MOVED, SEEN)  # type: ignore[arg-type]
AGREEMENT_SAID = dice_loss(said_of(FIXED), [*said_of(MOVING)[1:], 0], SEEN)


def how(**changes: object) -> JointNetRecipe:
    """Labels alone, each loss of another weight."""
    weights = {
        "similarity": Term("mse", 0.0),
        "regularisers": (),
        "supervised": (Term("soft_dice", 2.0),),
        "propagated": (Term("soft_dice", 3.0),),
        "agreement": (Term("soft_dice", 5.0),),
        "fused_weight": 7.0,
    }
    return recipe(**(weights | changes))


def material(order: list[tuple[bool, bool]] | None = None, **more: object) -> tuple[Material, list[Chosen]]:
    """A pair of each case."""
    found = []
    for number, (fixed, moving) in enumerate(order or LABELLED):
        found.append(case(f"f{number}", FIXED, FIXED_LABELS if fixed else None))
        found.append(case(f"m{number}", MOVING, MOVING_LABELS if moving else None))
    return Material(found, 2, **more), [Chosen(2 * n, 2 * n + 1) for n in range(len(found) // 2)]  # type: ignore[arg-type]


def shown_pairs(material: Material, chosen: list[Chosen], recipe: JointNetRecipe) -> ShownPairs:
    return ShownPairs(pairs_of(material, chosen, "cpu"), shown_of(material, chosen, recipe))


def parts_of(
    network: torch.nn.Module, recipe: JointNetRecipe | None = None, order: list[tuple[bool, bool]] | None = None
) -> dict[str, Tensor]:
    recipe = recipe or how()
    return JointNetObjective(recipe, (1.0, 1.0))(network, shown_pairs(*material(order), recipe))


def test_every_pair_has_what_its_labels_allow() -> None:
    parts = parts_of(ByHand())
    assert_close(parts["supervised"], 2 * torch.tensor([SUPERVISED_FIXED, 0, SUPERVISED_FIXED, 0]))
    assert_close(parts["propagated"], 3 * torch.tensor([PROPAGATED, 0, 0, 0]))
    assert_close(parts["agreement"], 5 * torch.tensor([0, AGREEMENT, 0, 0]))
    assert_close(parts["fused"], torch.zeros(4))
    assert_close(parts["similarity"], torch.zeros(4))


def test_a_network_that_segments_both_images_is_supervised_on_both_and_carries_what_it_says() -> None:
    parts = parts_of(ByHand(both=True))
    both = SUPERVISED_FIXED + SUPERVISED_MOVING
    assert_close(parts["supervised"], 2 * torch.tensor([both, SUPERVISED_MOVING, SUPERVISED_FIXED, 0]))
    assert_close(parts["propagated"], 3 * torch.tensor([PROPAGATED, 0, 0, 0]))
    assert_close(parts["agreement"], 5 * torch.tensor([0, AGREEMENT, 0, AGREEMENT_SAID]))


@pytest.mark.parametrize("both", [False, True])
def test_a_part_counts_for_the_pairs_that_have_it(both: bool) -> None:
    """What the learning curve averages over is what is not nought."""
    recipe = how()
    objective = JointNetObjective(recipe, (1.0, 1.0))
    some, chosen = material()
    parts = objective(ByHand(both), shown_pairs(some, chosen, recipe))
    for name in ("supervised", "fused", "propagated", "agreement"):
        counted = [objective.counts(name, some.given(c.fixed), some.given(c.moving)) for c in chosen]
        assert counted == (parts[name] > 0).tolist(), name


def test_similarity_and_regularity_are_those_of_the_moved_image() -> None:
    recipe = how(similarity=Term("mse", 11.0), regularisers=(Term("magnitude", 13.0),))
    parts = parts_of(ByHand(), recipe)
    assert_close(parts["similarity"], torch.zeros(4))  # moved, it is the fixed image wherever that is seen
    assert_close(parts["regularity"], torch.full((4,), 13.0))


def between(network: ByHand) -> ByHand:
    with torch.no_grad():
        network.shift += 0.25
    return network


def gradients(part: str, both: bool, order: list[tuple[bool, bool]]) -> tuple[bool, bool]:
    """Whether segmentation and registration learn of a part, between two voxels, where a slope is one."""
    network = between(ByHand(both))
    found = torch.autograd.grad(
        parts_of(network, order=order)[part].sum(), [network.contrast, network.shift], allow_unused=True
    )
    segmenting, registering = (gradient is not None and bool(gradient.abs() > 1e-4) for gradient in found)
    return segmenting, registering


def test_propagated_labels_teach_the_transform_and_agreement_both() -> None:
    assert gradients("supervised", False, [(True, True)]) == (True, False)
    assert gradients("propagated", False, [(True, True)]) == (False, True)
    assert gradients("agreement", False, [(False, True)]) == (True, True)


def test_what_is_said_of_the_moving_image_is_carried_as_if_it_were_true() -> None:
    """No gradient goes back through it: both segmentations would agree on nothing at all."""

    class Moving(ByHand):
        def logits(self, image: Tensor) -> Tensor:
            said = super().logits(image)
            return said if torch.equal(image[0, 0, 0], torch.tensor(MOVING).float()) else said.detach()

    network = between(Moving(both=True))
    loss = parts_of(network, order=[(False, False)])["agreement"].sum()
    contrast, shift = torch.autograd.grad(loss, [network.contrast, network.shift], allow_unused=True)
    assert contrast is None or contrast == 0
    assert shift.abs() > 1e-4


def test_labels_can_be_compared_by_correlation_as_printed() -> None:
    """Of the five voxels that are seen, 1 and 2 are moved labels, and 0 is a fixed one."""
    parts = parts_of(ByHand(), how(propagated=(Term("ncc"),)), order=[(True, True)])
    covariance, variances = 0 - 2 / 5 * 1 / 5, (2 / 5 * 3 / 5) * (1 / 5 * 4 / 5)
    assert_close(parts["propagated"], torch.tensor([1 - covariance / variances**0.5]))


def test_losses_that_the_recipe_has_not_are_not_there() -> None:
    recipe = how(supervised=(), propagated=(Term("soft_dice", 0.0),), agreement=(), similarity=Term("mse"))
    assert set(parts_of(ByHand(), recipe)) == {"similarity", "regularity"}
    assert "fused" not in parts_of(ByHand(), how(fused_weight=0.0))


# What the network sees


def test_moving_labels_go_in_where_they_are_known_and_rows_stay_in_place() -> None:
    """Pairs with and without them go through the network apart: none is not the same as all zero."""
    network, recipe = ByHand(both=True), how()
    some, chosen = material([(True, False), (True, True), (False, False), (False, True)])
    batch = shown_pairs(some, chosen, recipe)
    assert batch.shown == (False, True, False, True)
    parts = JointNetObjective(recipe, (1.0, 1.0))(network, batch)
    with_labels, without = network.seen
    assert without is None
    assert with_labels is not None
    assert_close(with_labels[:, 1, 0], torch.tensor([MOVING_LABELS] * 2).float())
    assert_close(with_labels.sum(1), torch.ones(2, 2, 6))
    expected = [SUPERVISED_FIXED, SUPERVISED_FIXED + SUPERVISED_MOVING, 0, SUPERVISED_MOVING]
    assert_close(parts["supervised"], 2 * torch.tensor(expected))
    again = JointNetObjective(recipe, (1.0, 1.0))(network, batch.rows(slice(1, 3)))
    for name, part in parts.items():
        assert_close(again[name], part[1:3])


def test_answers_are_put_back_in_the_order_of_their_pairs() -> None:
    """Four fixed images, all different; of the first and third the network does not see the moving labels."""
    rows = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]]
    cases = [case(f"f{number}", row, None) for number, row in enumerate(rows)] + [case("m", MOVING, MOVING_LABELS)]
    pairs = pairs_of(Material(cases, 2), [Chosen(number, 4) for number in range(4)], "cpu")
    apart, together = (
        ask(net("shared-unet"), ShownPairs(pairs, shown)) for shown in ((False, True, False, True), (True,) * 4)
    )
    assert_close(apart.fixed[[1, 3]], together.fixed[[1, 3]])
    none = ask(net("shared-unet"), ShownPairs(pairs, (False,) * 4))
    assert_close(apart.fixed[[0, 2]], none.fixed[[0, 2]])
    assert_close(apart.answer.whole.displacement_vox[0], none.answer.whole.displacement_vox[0])
    assert not torch.allclose(none.fixed, together.fixed, atol=1e-3)
    assert (none.fixed[0] - none.fixed[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, (True, True, False)),
        ({"moving_labels": "true"}, (True, False, False)),
        ({"moving_labels": "never"}, (False, False, False)),
        ({"drop_labels": 1.0}, (False, False, False)),
    ],
)
def test_the_recipe_says_which_moving_labels_go_in(changes: dict[str, object], shown: tuple[bool, ...]) -> None:
    cases = [case("a", MOVING, MOVING_LABELS), case("b", MOVING, None), case("c", MOVING, None)]
    some = Material(cases, 2, {"b": FusedLabels(torch.tensor([MOVING_LABELS] * 2))})
    chosen = [Chosen(1, 0), Chosen(0, 1), Chosen(0, 2)]
    assert shown_of(some, chosen, how(**changes), torch.Generator().manual_seed(0)) == shown
    if changes.get("drop_labels"):
        assert shown_of(some, chosen, how(**changes)) == (True, True, False)  # judged, none is left out


def test_labels_are_left_out_as_often_as_the_recipe_says() -> None:
    some, chosen = material([(True, True)])
    source = torch.Generator().manual_seed(0)
    shown = shown_of(some, chosen * 1000, how(drop_labels=0.3), source)
    assert sum(shown) == pytest.approx(700, abs=45)


# Fused labels, and structures that labels do not tell


def test_fused_labels_teach_by_their_weight_and_confidence() -> None:
    soft = torch.tensor([[[0.1, 0.9, 0.6, 0, 0, 0]] * 2])
    confidence = torch.tensor([[1.0, 0.5, 0.25, 1, 1, 0]] * 2)
    cases = [case("f", FIXED, None), case("m", MOVING, MOVING_LABELS), case("n", FIXED, FIXED_LABELS)]
    some = Material(cases, 2, {"f": FusedLabels(torch.cat([1 - soft, soft]), confidence)})
    fused, trust = soft[0, 0].tolist(), confidence[0].tolist()
    objective, chosen = JointNetObjective(how(), (1.0, 1.0)), [Chosen(0, 1), Chosen(2, 0)]
    parts = objective(ByHand(), shown_pairs(some, chosen, how()))
    assert_close(parts["fused"], 14 * torch.tensor([dice_loss(said_of(FIXED), fused, trust), 0]))
    assert_close(parts["supervised"], 2 * torch.tensor([0, SUPERVISED_FIXED]))
    as_fixed = dice_loss(MOVED, fused, [w * s for w, s in zip(trust, SEEN, strict=True)])  # type: ignore[arg-type]
    as_moving = dice_loss([*fused[1:], 0], FIXED_LABELS, [*trust[1:], 0])  # type: ignore[arg-type]
    assert_close(parts["propagated"], 21 * torch.tensor([as_fixed, as_moving]))
    assert_close(parts["agreement"], torch.zeros(2))
    off = JointNetObjective(how(fused_weight=0.0), (1.0, 1.0))(ByHand(), shown_pairs(some, chosen, how()))
    assert_close(off["agreement"], 5 * torch.tensor([AGREEMENT, 0]))
    assert_close(off["propagated"], torch.zeros(2))
    assert "fused" not in off


@pytest.mark.parametrize("told", [{1}, {1, 2}])
def test_a_structure_that_labels_do_not_tell_is_not_punished(told: set[int]) -> None:
    """Label 2 is said where the labels are background. It costs nothing unless it is known not to be there."""

    class Second(ByHand):
        def __init__(self, strong: float) -> None:
            super().__init__(labels=3)
            self.strong = strong

        def logits(self, image: Tensor) -> Tensor:
            said = super().logits(image).clone()
            said[:, 2, :, 4:] = self.strong
            return said

    cross = {name: (Term("cross_entropy"),) for name in ("supervised", "propagated", "agreement")}
    recipe = how(**cross)
    cases = [case("a", MOVING, MOVING_LABELS), case("b", FIXED, FIXED_LABELS), case("c", FIXED, None)]
    some = Material(cases, 3, known={"a": told, "b": told})
    batch = shown_pairs(some, [Chosen(1, 0), Chosen(2, 0)], recipe)
    weak, strong = (JointNetObjective(recipe, (1.0, 1.0))(Second(value), batch) for value in (-50.0, 20.0))
    for part, row in (("supervised", 0), ("agreement", 1)):
        assert (strong[part][row] < weak[part][row] + 0.1) == (told == {1}), part


# Trouble


def test_a_displacement_that_is_no_number_is_seen_before_there_is_a_gradient() -> None:
    class Broken(ByHand):
        def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
            said = super().forward(fixed, moving, moving_labels)
            field = said.registered.displacement_vox.clone()
            field[0, 0, 0, 0] = torch.inf
            return replace(said, registered=Said(field))

    parts = parts_of(Broken(), order=[(True, True), (True, True)])
    assert parts["regularity"].isfinite().tolist() == [False, True]


def test_a_batch_that_teaches_nothing_has_a_gradient_of_nought() -> None:
    network = ByHand()
    torch.stack(list(parts_of(network, order=[(False, False)]).values())).sum().backward()
    assert network.shift.grad == 0


@pytest.mark.parametrize(
    ("network", "changes", "rule"),
    [
        (ByHand(labels=3), {}, r"must say fixed logits of \(4, 2, 2, 6\), got \(4, 3, 2, 6\)"),
        (ByHand(), {"level_weight": 1.0}, "level_weight must be 0 for a network that says no levels"),
        (ByHand(), {"foreign_volume": 1.0}, "foreign_volume must be 0 for a network that does not say what has no"),
        (
            net("ncr-net", outputs=2),
            {},
            "foreign_volume must be positive for a network that says what has no counterpart",
        ),
    ],
)
def test_a_network_that_does_not_say_what_the_recipe_needs_is_refused(
    network: torch.nn.Module, changes: dict[str, object], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        parts_of(network, how(**changes))


def test_memory_that_ends_is_not_taken_for_images_that_are_too_small() -> None:
    class Hungry(ByHand):
        def forward(self, *images: Tensor | None) -> Joint:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    with pytest.raises(RuntimeError, match="you tried to allocate 8 bytes"):
        parts_of(Hungry(), how())


def test_images_that_are_too_small_are_a_value_error() -> None:
    class Small(ByHand):
        def forward(self, *images: Tensor | None) -> Joint:
            return Joint(Said(torch.zeros(1)), torch.nn.functional.conv2d(images[0], torch.zeros(1, 1, 9, 9)))  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"cannot take images of \(2, 6\), too small perhaps"):
        parts_of(Small())


def test_unknown_losses_and_similarities_that_do_not_tell_voxels_are_refused() -> None:
    for changes, rule in (
        ({"propagated": (Term("dise"),)}, "recipe toys: unknown label loss 'dise'"),
        ({"similarity": Term("lncc"), "foreign_volume": 1.0}, "lncc does not weigh voxels one by one"),
    ):
        with pytest.raises(ValueError, match=rule):
            JointNetObjective(how(**changes), (1.0, 1.0))
    assert Given.NONE < Given.FUSED < Given.TRUE  # the weight of a pair is that of its lesser labels
