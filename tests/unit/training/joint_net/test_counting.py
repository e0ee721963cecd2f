"""Lesions are relaxed, what has no counterpart is not compared and has its price; all of it by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from covoxel.losses.base import SIMILARITIES
from covoxel.training.joint.batch import pairs_of
from covoxel.training.joint.material import Material
from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.joint_net.batch import ShownPairs
from covoxel.training.joint_net.counting import calm_of, present, price, tells_voxels
from covoxel.training.joint_net.objective import JointNetObjective
from covoxel.training.registration import Term, TrainingCase
from covoxel.training.registration.answer import Field
from covoxel.training.registration.sampling import Chosen
from covoxel.training.registration.terms import Terms, Weighted
from tests.unit.training.joint_net.toys import Joint, case, recipe
from tests.unit.training.registration.toys import Said

IMAGE, OTHER = [1, 1, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0]
LESION = [1.0, 0, 0, 0, 0, 0.5]
"""Probability of label 1 in each voxel of the row."""
LESIONS = {"lesions": (1,), "relax": 0.8}


class Tells(nn.Module):
    """Says the lesion above, no displacement, and what is foreign, all of one parameter."""

    def __init__(self, foreign: list[float] | None = None) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.foreign = None if foreign is None else nn.Parameter(torch.tensor(foreign).logit().expand(1, 1, 2, 6))

    def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
        lesion = torch.tensor(LESION).clamp(1e-7, 1 - 1e-7).expand_as(fixed) + self.shift
        logits = torch.cat([(1 - lesion).log(), lesion.log()], 1)
        return Joint(Said(0 * torch.cat([fixed, fixed], 1) + self.shift), logits, None, self.foreign)


def parts_of(network: nn.Module, **changes: object) -> dict[str, Tensor]:
    how = recipe(supervised=(), propagated=(), agreement=(), regularisers=(Term("diffusion"),), **changes)
    some = Material([case("f", IMAGE, None), case("m", OTHER, None)], 2)
    batch = ShownPairs(pairs_of(some, [Chosen(0, 1)], "cpu"), (False,))
    return JointNetObjective(how, (1.0, 1.0))(network, batch)


# Lesions


def test_similarity_counts_less_inside_of_a_lesion_and_as_ever_outside() -> None:
    """Images differ at voxels 0, 4 and 5: sure to be a lesion, none, and perhaps one."""
    assert_close(parts_of(Tells())["similarity"], torch.tensor([3 / 6]))
    assert_close(parts_of(Tells(), **LESIONS)["similarity"], torch.tensor([(0.2 + 1 + 0.6) / 6]))


def bump(at: int) -> Field:
    """Displacements along rows of forty voxels, nought but around one of them, where they fold."""
    along = torch.zeros(1, 1, 12, 40)
    along[..., at - 1 : at + 2] = torch.tensor([2.0, 0.0, -2.0])
    return Field(torch.cat([torch.zeros_like(along), along], 1))


@pytest.mark.parametrize("part", ["regularity", "levels"])
def test_the_whole_field_and_its_levels_are_relaxed(part: str) -> None:
    """The network is sure that the left half is a lesion, and rough there alone; its level has cells of two voxels."""

    class Rough(nn.Module):
        def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
            along = torch.zeros(1, 1, 12, 40)
            along[..., 4:8] = torch.tensor([0.5, -0.5, -0.5, 0.5])
            whole = torch.cat([torch.zeros_like(along), along], 1)
            logits = torch.zeros(1, 2, 12, 40)
            logits[:, 1, :, :20], logits[:, 1, :, 20:] = 50, -50
            return Joint(Said(whole, levels=(Said(whole[:, :, ::2, ::2]),)), logits)

    image = torch.rand(12, 40, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(12, 40, dtype=torch.bool)
    some = Material([TrainingCase("f", image, mask), TrainingCase("m", image, mask)], 2)
    batch = ShownPairs(pairs_of(some, [Chosen(0, 1)], "cpu"), (False,))
    how = recipe(similarity=Term("mse", 0.0), regularisers=(Term("diffusion"),), level_weight=1.0)
    plain, relaxed = (
        JointNetObjective(each, (1.0, 1.0))(Rough(), batch)[part] for each in (how, replace(how, **LESIONS))
    )
    assert 0 < relaxed < 0.3 * plain


def test_levels_are_compared_where_they_have_a_counterpart() -> None:
    """One level, as large as the image; two voxels of six differ, one of them half foreign."""

    class Level(Tells):
        def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
            said = super().forward(fixed, moving, moving_labels)
            none = said.registered
            assert said.foreign is not None
            return replace(
                said, registered=Said(none.displacement_vox, levels=(none, none)), foreign_levels=(said.foreign,) * 2
            )

    foreign = [0.5, 0.1, 0.1, 0.1, 0.9, 0.1]
    parts = parts_of(Level(foreign), foreign_volume=2.0, level_weight=3.0)
    assert_close(parts["levels"], torch.tensor([3 * (0.5 + 0.1 + 0.9) / 6]))
    assert_close(parts["foreign"], torch.tensor([(1 + 2 * 3) * 2 * sum(foreign) / 6]))


@pytest.mark.parametrize("name", ["diffusion", "bending", "negative_jacobian"])
def test_a_rough_field_costs_less_inside_of_a_lesion_alone(name: str) -> None:
    """The lesion is the last fifth of the row."""
    terms = Terms(recipe(regularisers=(Term(name),)).registration, (1.0, 1.0))
    calm = torch.ones(1, 1, 12, 40)
    calm[..., 32:] = 0.2
    outside, inside = bump(10), bump(36)
    assert_close(terms.irregularity(outside), terms.irregularity(inside))
    assert terms.irregularity(inside) > 0.01
    assert terms.irregularity(inside, calm) < 0.25 * terms.irregularity(inside)
    assert terms.irregularity(outside, calm) == pytest.approx(float(terms.irregularity(outside)), rel=0.1)


def test_everywhere_relaxed_is_everywhere_cheaper() -> None:
    terms = Terms(recipe(regularisers=(Term("diffusion"),)).registration, (1.0, 1.0))
    calm = torch.full((1, 1, 12, 40), 0.25)
    assert_close(terms.irregularity(bump(10), calm), 0.25 * terms.irregularity(bump(10)))


def test_a_velocity_on_larger_cells_is_relaxed_by_the_mean_of_its_voxels() -> None:
    """Two times, each on cells of two voxels; the lesion is the last cell of three."""
    terms = Terms(recipe(regularisers=(Term("magnitude"),)).registration, (1.0, 1.0))
    velocity = torch.zeros(1, 2, 2, 1, 3)
    velocity[0, :, 1] = torch.tensor([[1.0, 0, 2], [0, 0, 3]])[:, None]
    calm = torch.tensor([1.0, 1, 1, 1, 0.5, 0]).expand(1, 1, 2, 6)
    said = Field(torch.zeros(1, 2, 2, 6), velocity)
    assert_close(terms.irregularity(said), torch.tensor([(1 + 4 + 9) / 3 / 2]))
    assert_close(terms.irregularity(said, calm), torch.tensor([(1 + (4 + 9) / 4) / 3 / 2]))


def test_the_segmentation_learns_nothing_of_being_relaxed() -> None:
    probabilities = torch.rand(1, 3, 4, 4, requires_grad=True)
    calm = calm_of(probabilities, [1, 2], 0.5)
    assert calm is not None
    assert not calm.requires_grad
    assert_close(calm, 1 - 0.5 * (probabilities[:, 1:2] + probabilities[:, 2:]))
    assert calm_of(probabilities, [], 0.0) is None


# What has no counterpart


def test_what_is_foreign_is_not_compared_and_paid_for_by_voxels_and_faces() -> None:
    """Two rows, alike: a face between 1 and 2, one between 4 and 5, two between the rows do not count."""
    foreign = [0.9, 0.9, 0.1, 0.1, 0.1, 0.6]
    parts = parts_of(Tells(foreign), foreign_volume=2.0, foreign_perimeter=3.0)
    assert_close(parts["similarity"], torch.tensor([(0.1 + 0.9 + 0.4) / 6]))
    assert_close(parts["foreign"], torch.tensor([2 * sum(foreign) / 6 + 3 * (0.8 + 0.5) / 6]))
    both = parts_of(Tells(foreign), foreign_volume=2.0, **LESIONS)
    assert_close(both["similarity"], torch.tensor([(0.1 * 0.2 + 0.9 + 0.4 * 0.6) / 6]))


def test_a_square_is_paid_for_by_its_sides() -> None:
    square = torch.zeros(2, 1, 6, 6)
    square[0, 0, 2:4, 1:4] = 1
    assert_close(price(square, 1.0, 0.0), torch.tensor([6 / 36, 0]))
    assert_close(price(square, 0.0, 1.0), torch.tensor([10 / 36, 0]))
    assert_close(price(square[:, :, None], 0.0, 1.0), torch.tensor([10 / 36, 0]))


def test_a_voxel_becomes_foreign_if_that_is_cheaper_than_its_difference() -> None:
    """Voxels 0, 4 and 5 differ, by 1 of 6 each; the price lies above or below."""
    for volume, rises in ((0.5, True), (2.0, False)):
        network = Tells([0.5] * 6)
        parts = parts_of(network, foreign_volume=volume)
        assert network.foreign is not None
        (gradient,) = torch.autograd.grad(parts["similarity"] + parts["foreign"], network.foreign)
        assert (gradient[0, 0, 0] < 0).tolist() == [rises and voxel in (0, 4, 5) for voxel in range(6)]


def test_in_the_first_of_two_phases_nothing_needs_to_be_foreign() -> None:
    def objective(alone: bool) -> JointNetObjective:
        how: JointNetRecipe = recipe(foreign_volume=1.0)
        made = JointNetObjective(how, (1.0, 1.0))
        made.registers_alone = alone
        return made

    some = Material([case("f", IMAGE, None), case("m", OTHER, None)], 2)
    batch = ShownPairs(pairs_of(some, [Chosen(0, 1)], "cpu"), (False,))
    assert "foreign" not in objective(alone=True)(Tells(), batch)
    with pytest.raises(ValueError, match="foreign_volume must be 0"):
        objective(alone=False)(Tells(), batch)


def test_probabilities_of_a_counterpart_and_calm_go_together() -> None:
    foreign, calm = torch.tensor([0.25]), torch.tensor([0.5])
    assert present(None, None) is None
    assert present(None, calm) is calm
    assert present(foreign, None) == 0.75
    assert present(foreign, calm) == 0.375


@pytest.mark.parametrize(
    ("name", "options", "tells"), [("mse", {}, True), ("mind", {}, True), ("lncc", {"radius": 2}, False)]
)
def test_similarities_that_take_the_mask_as_given_are_told_apart(
    name: str, options: dict[str, Any], tells: bool
) -> None:
    assert tells_voxels(Weighted(name, 1.0, SIMILARITIES[name], options)) == tells
