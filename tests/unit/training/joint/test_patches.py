"""Patches of big images: where they lie, that both sides of a pair are cut alike, and that whole ones are as ever."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint import FusedLabels, train_joint
from covoxel.training.joint.batch import images_of, pairs_of
from covoxel.training.joint.material import Box, Material
from covoxel.training.joint.patches import Patches
from covoxel.training.registration import TrainingCase
from covoxel.training.registration.sampling import Chosen
from covoxel.training.seeds import generator
from tests.unit.training.joint.toys import SHAPE, cases, recipe, segmenter
from tests.unit.training.registration.toys import Said, toy

BIG = (30, 40)


def big(labels: Tensor | None, name: str = "a", mask: Tensor | None = None) -> TrainingCase:
    image = torch.arange(BIG[0] * BIG[1]).view(BIG).float()
    return TrainingCase(name, image, torch.ones(BIG, dtype=torch.bool) if mask is None else mask, labels)


def two_structures() -> Tensor:
    """One voxel of label 1 in a corner, many of label 2 far from it."""
    labels = torch.zeros(BIG, dtype=torch.int64)
    labels[0, 0], labels[20:28, 30:38] = 1, 2
    return labels


def drawn(patches: Patches, pair: Chosen, count: int = 400) -> list[Box]:
    found = [patches.draw([pair], generator("patch", number)) for number in range(count)]
    assert all(boxes is not None for boxes in found)
    return [boxes[0] for boxes in found if boxes is not None]


def test_half_of_the_patches_hold_a_structure_each_as_often_as_the_other() -> None:
    labels = two_structures()
    boxes = drawn(Patches(Material([big(labels)], 3), (6, 8)), Chosen(0, 0))
    shapes = {tuple(labels[box].shape) for box in boxes}
    assert shapes == {(6, 8)}
    held = Counter(max(torch.unique(labels[box]).tolist()) for box in boxes)
    assert 80 <= held[1] <= 120  # one voxel: by chance alone it is in one patch of 825
    assert 100 <= held[2] <= 190  # a quarter, and by chance about a fifth of the others
    assert len({(box[0].start, box[1].start) for box in boxes if labels[box].max() == 2}) > 30


def test_without_labels_they_lie_anywhere_up_to_both_borders() -> None:
    boxes = drawn(Patches(Material([big(None)], 3), (28, 39)), Chosen(0, 0), 200)
    assert {(box[0].start, box[1].start) for box in boxes} == {(i, j) for i in range(3) for j in range(2)}


def test_the_same_generator_draws_the_same() -> None:
    patches = Patches(Material([big(two_structures()), big(None, "b")], 3), (6, 8))
    pairs = [Chosen(0, 1), Chosen(1, 0)]
    one, other = (patches.draw(pairs, generator(7)) for _ in range(2))
    assert one == other
    assert one is not None
    assert one[0] != one[1]


def test_structures_are_those_of_true_labels_else_of_fused_ones() -> None:
    """Of the pair's sides the labelled one tells; the fused label of the other lies elsewhere, and is not asked."""
    elsewhere = torch.zeros(BIG, dtype=torch.int64)
    elsewhere[29, 39] = 1
    soft = torch.stack([1 - elsewhere.float(), 0.6 * elsewhere, torch.zeros(BIG)])
    for fused in (elsewhere, soft):
        material = Material([big(two_structures()), big(None, "b")], 3, {"b": FusedLabels(fused)})
        patches = Patches(material, (2, 2))

        def corner(pair: Chosen, of: Patches = patches) -> int:
            return sum(box == (slice(28, 30), slice(38, 40)) for box in drawn(of, pair, 100))

        assert corner(Chosen(0, 1)) <= 3
        assert corner(Chosen(1, 0)) <= 3
        assert 30 <= corner(Chosen(1, 1)) <= 70


def test_a_patch_outside_the_field_of_view_is_drawn_anew() -> None:
    inside = torch.zeros(BIG, dtype=torch.bool)
    inside[:15] = True
    patches = Patches(Material([big(None, mask=inside), big(None, "b")], 3), (4, 4))
    assert all(inside[box].any() for box in drawn(patches, Chosen(0, 1), 100))


def test_both_sides_are_cut_at_one_place_with_all_that_is_known_of_them() -> None:
    some = cases([0])
    fused = {some[3].id: FusedLabels((some[3].image > 0.5).long(), some[3].image)}
    material = Material(some, 2, fused)
    boxes = [(slice(2, 9), slice(1, 6)), (slice(0, 7), slice(5, 10))]
    chosen = [Chosen(0, 3), Chosen(3, 2)]
    whole, cut = pairs_of(material, chosen, "cpu"), pairs_of(material, chosen, "cpu", boxes=boxes)
    for side, part in ((whole.fixed, cut.fixed), (whole.moving, cut.moving)):
        for name in ("image", "mask", "labels", "weight"):
            for row, box in enumerate(boxes):
                assert torch.equal(getattr(part, name)[row], getattr(side, name)[row][:, *box]), name
        assert part.given == side.given
        assert torch.equal(part.known, side.known)
    images = images_of(material, [0, 3], "cpu", boxes=boxes)
    assert torch.equal(images.labels, torch.stack([cut.fixed.labels[0], cut.fixed.labels[1]]))


def test_an_axis_on_which_images_are_shorter_is_taken_whole() -> None:
    patches = Patches(Material([big(None)], 2), (64, 8))
    assert patches.shape == (30, 8)
    assert all(box[0] == slice(0, 30) for box in drawn(patches, Chosen(0, 0), 20))
    assert Patches(Material([big(None)], 2), None).draw([Chosen(0, 0)], generator(1)) is None


def test_a_patch_of_other_dimensions_is_refused_before_anything_is_trained() -> None:
    for patch in ((8, 8, 8), (8,), (8, 0), (8, 4.5)):
        with pytest.raises(ValueError, match="patch must (have 2 sides|be 2 or 3 whole numbers, 1 or more)"):
            train_joint(toy(), segmenter(), cases(), recipe(patch=patch), values=2)


class Sized(nn.Module):
    """A network, and the shapes it saw in training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, set[tuple[int, ...]]()

    def forward(self, *images: Tensor) -> Said | Tensor:
        if self.training:
            self.seen.add(tuple(images[0].shape[2:]))
        said: Said | Tensor = self.inner(*images)
        return said


def test_the_segmentation_network_and_the_joint_phase_learn_from_patches_and_whole_images_judge() -> None:
    registration, segmentation = Sized(toy()), Sized(segmenter())
    how = recipe(patch=(8, 6), held_out=1)
    trained = train_joint(registration, segmentation, cases([0, 1, 2]), how, values=2)
    assert registration.seen == {SHAPE, (8, 6)}  # whole ones when it learns alone
    assert segmentation.seen == {(8, 6)}
    assert trained.curve["validation_segmentation_loss"].notna().any()


def test_a_patch_as_large_as_the_image_changes_no_bit() -> None:
    whole, cut = (
        train_joint(toy(), segmenter(), cases(), replace(recipe(), patch=patch), values=2) for patch in (None, SHAPE)
    )
    assert all(map(torch.equal, whole.registration.parameters(), cut.registration.parameters()))
    assert whole.segmentation is not None
    assert cut.segmentation is not None
    assert all(map(torch.equal, whole.segmentation.parameters(), cut.segmentation.parameters()))
