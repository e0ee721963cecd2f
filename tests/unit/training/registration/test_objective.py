"""Objective: each term where it belongs, on what it belongs to."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.losses.base import AFFINE_REGULARISERS, CONSISTENCY, LABEL_LOSSES, REGULARISERS, SIMILARITIES
from covoxel.spatial.smoothing import cell_means
from covoxel.training.registration import Recipe, Term
from covoxel.training.registration.answer import Field
from covoxel.training.registration.objective import Objective
from covoxel.training.registration.pairs import Pairs
from covoxel.training.registration.terms import Terms
from tests.unit.training.registration.toys import Said, recipe

SHAPE = (8, 12)
NONE = {"regularisers": (), "similarity": Term("mse", 0.0)}


def pairs_of(batch: int = 3, labelled: int = 0, shape: tuple[int, ...] = SHAPE) -> Pairs:
    images = [torch.rand(batch, 1, *shape) for _ in range(2)]
    masks = [(torch.rand(batch, 1, *shape) > 0.2).float() for _ in range(2)]
    labels = [torch.rand(labelled, 1, *shape).round() for _ in range(2)]
    return Pairs(*images, *masks, *labels)


def saying(said: Callable[[Tensor, Tensor], Said] | Said) -> Callable[[Tensor, Tensor], Said]:
    return said if callable(said) else lambda fixed, moving: said  # type: ignore[return-value]


def parts_of(how: Recipe, said: object, pairs: Pairs, spacing: tuple[float, ...] = (1.0, 1.0)) -> dict[str, Tensor]:
    return Objective(how, Terms(how, spacing))(saying(said), pairs)  # type: ignore[arg-type]


def zeros(batch: int = 3, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.zeros(batch, len(shape), *shape)


def test_similarity_counts_where_both_have_data() -> None:
    pairs = pairs_of()
    parts = parts_of(recipe(similarity=Term("mse", 2.0), regularisers=()), Said(zeros()), pairs)
    mask = pairs.fixed_mask * pairs.moving_mask
    expected = 2 * SIMILARITIES["mse"](pairs.fixed, mask, radius=0)(pairs.moving)
    assert_close(parts["similarity"], expected)
    assert parts.keys() == {"similarity", "regularity"}
    assert not parts["regularity"].any()


def test_labels_are_compared_on_the_pairs_that_have_them() -> None:
    pairs = pairs_of(3, labelled=2)
    parts = parts_of(recipe(labels=Term("squared_error", 3.0)), Said(zeros()), pairs)
    mask = (pairs.fixed_mask * pairs.moving_mask)[:2]
    said, truth = (torch.cat([1 - x, x], 1) for x in (pairs.moving_labels, pairs.fixed_labels))
    expected = 3 * LABEL_LOSSES["squared_error"](said, truth, mask=mask)
    assert_close(parts["labels"], torch.cat([expected, torch.zeros(1)]))
    assert expected.min() > 0
    assert "labels" not in parts_of(recipe(), Said(zeros()), pairs_of())


def test_labels_and_image_move_with_the_displacement() -> None:
    base = pairs_of(1, labelled=1)
    ones = torch.ones_like(base.fixed)
    image = torch.rand(1, 1, *SHAPE)
    label = (image > 0.5).float()
    pairs = Pairs(image.roll(-2, 2), image, ones, ones, label.roll(-2, 2), label)
    shift = zeros(1)
    shift[:, 0] = 2.0
    how = recipe(labels=Term("soft_dice"), regularisers=())
    right, wrong = (parts_of(how, Said(field), pairs) for field in (shift, -shift))
    for name in ("similarity", "labels"):
        assert float(right[name]) < 1e-5 < float(wrong[name])


def test_regularisers_are_on_the_velocity_if_there_is_one_but_folds_on_the_displacement() -> None:
    displacement, velocity = torch.randn(3, 2, *SHAPE), torch.randn(3, 4, 2, 4, 6)
    how = recipe(similarity=Term("mse", 0.0), regularisers=(Term("diffusion", 0.5),))
    each = torch.stack([REGULARISERS["diffusion"](velocity[:, time]) for time in range(4)])
    assert_close(parts_of(how, Said(displacement, velocity), pairs_of())["regularity"], 0.5 * each.mean(0))
    assert_close(
        parts_of(how, Said(displacement), pairs_of())["regularity"], 0.5 * REGULARISERS["diffusion"](displacement)
    )
    folds = replace(how, regularisers=(Term("anti_folding"), Term("volume_change", 2.0)))
    expected = REGULARISERS["anti_folding"](displacement) + 2 * REGULARISERS["volume_change"](displacement)
    assert_close(parts_of(folds, Said(displacement, velocity), pairs_of())["regularity"], expected)


def test_coarser_axes_are_longer_whatever_the_unit() -> None:
    field = torch.randn(3, 2, *SHAPE)
    how = recipe(similarity=Term("mse", 0.0), regularisers=(Term("bending"),))
    plain, same, flat = (
        parts_of(how, Said(field), pairs_of(), spacing)["regularity"] for spacing in ((1, 1), (2.5, 2.5), (1.0, 4.0))
    )
    assert_close(same, plain)
    assert_close(flat, REGULARISERS["bending"](field, spacing_mm=(0.5, 2.0)))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_affine_maps_are_penalised_in_millimetres_about_the_middle_of_the_frame(factor: int) -> None:
    """A turn about the frame's centre, in mm, said in voxels that are no cubes, on cells of any size."""
    spacing, angle = (1.0, 3.0), 0.3
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    to_mm = torch.tensor([[spacing[0] * factor, 0, 0], [0, spacing[1] * factor, 0], [0, 0, 1.0]])
    for axis, side in enumerate(SHAPE):
        to_mm[axis, 2] = spacing[axis] * ((factor - 1) / 2 - (side - 1) / 2)
    matrix = (torch.linalg.inv(to_mm) @ turn @ to_mm).expand(3, 3, 3)
    coarse = torch.zeros(3, 2, *(side // factor for side in SHAPE))
    said = Said(zeros(), levels=(Field(coarse, None, matrix),))
    rigid = parts_of(recipe(**NONE, affine_regularisers=(Term("orthogonality"),)), said, pairs_of(), spacing)
    assert rigid["regularity"].abs().max() < 1e-4
    close = Term("closeness", 1.0, {"radius_mm": 10.0})
    moved = parts_of(recipe(**NONE, affine_regularisers=(close,)), said, pairs_of(), spacing)
    assert_close(moved["regularity"], AFFINE_REGULARISERS["closeness"](turn[None], radius_mm=10.0).expand(3))  # type: ignore[call-arg]


def test_the_whole_affine_map_goes_before_those_of_levels() -> None:
    doubled = torch.diag(torch.tensor([2.0, 2.0, 1.0])).expand(3, 3, 3)
    said = Said(zeros(), None, torch.eye(3).expand(3, 3, 3), levels=(Field(zeros(), None, doubled),))
    how = recipe(**NONE, affine_regularisers=(Term("determinant"),))
    assert parts_of(how, said, pairs_of())["regularity"].abs().max() < 1e-6
    without = replace(said, moving_from_fixed_vox=None)
    assert_close(parts_of(how, without, pairs_of())["regularity"], torch.full((3,), 9.0))


def test_levels_are_compared_on_their_own_grid() -> None:
    pairs = pairs_of()
    ones = torch.ones_like(pairs.fixed)
    pairs = replace(pairs, fixed_mask=ones, moving_mask=ones)
    field = torch.randn(3, 2, 4, 6)
    how = recipe(regularisers=(Term("diffusion", 0.1),), level_weight=0.5)
    said = Said(zeros(), levels=(Field(field * 0), Field(field * 0), Field(zeros())))
    parts = parts_of(how, said, pairs)
    alike = SIMILARITIES["mse"](cell_means(pairs.fixed, [2, 2]), cell_means(ones, [2, 2]), radius=0)
    assert_close(parts["levels"], 0.5 * 2 * alike(cell_means(pairs.moving, [2, 2])))  # not the last: it is the whole
    rough = parts_of(how, Said(zeros(), levels=(Field(field),)), pairs)["levels"]
    assert (rough > 0.5 * 0.1 * REGULARISERS["diffusion"](field)).all()
    assert "levels" not in parts_of(replace(how, level_weight=0.0), said, pairs)
    with pytest.raises(ValueError, match=r"a level must have sides of \(8, 12\) divided by one whole number"):
        parts_of(how, Said(zeros(), levels=(Field(torch.zeros(3, 2, 4, 5)),)), pairs)


def test_known_warps_are_the_only_supervision_of_synthetic_pairs() -> None:
    base = pairs_of()
    truth = torch.randn(3, 2, *SHAPE)
    pairs = replace(base, truth_vox=truth)
    how = recipe(supervision="warps", regularisers=(), level_weight=1.0)
    coarse = torch.stack([cell_means(truth[:, d : d + 1], [2, 2])[:, 0] / 2 for d in range(2)], 1)
    parts = parts_of(how, Said(truth, levels=(Field(coarse),)), pairs)
    assert parts.keys() == {"regularity", "warps", "levels"}
    assert all(part.abs().max() < 1e-10 for part in parts.values())
    off = parts_of(how, Said(truth + 2, levels=(Field(coarse + 1),)), pairs)
    assert_close(off["warps"], torch.full((3,), 8.0))
    assert_close(off["levels"], torch.full((3,), 8.0))


CONSISTENT = ("inverse_consistency", "invertibility", "cycle", "identity", "dual_consistency", "gradient_icon")


@pytest.mark.parametrize("name", CONSISTENT)
def test_consistency_is_of_both_directions(name: str) -> None:
    """Forward and backward differ as the images do; a pair exchanged says the same of symmetrical losses."""
    assert name in CONSISTENCY
    pairs = pairs_of(2, labelled=1)
    asked: list[tuple[Tensor, Tensor]] = []

    def network(fixed: Tensor, moving: Tensor) -> Said:
        asked.append((fixed, moving))
        return Said(torch.cat([fixed - moving, fixed * 0.5], 1))

    how = recipe(consistency=(Term(name, 2.0),), regularisers=())
    parts = parts_of(how, network, pairs)
    assert len(asked) == (2 if name == "cycle" else 1)
    assert asked[0][0].shape[0] == (8 if name == "identity" else 4)
    assert (parts["consistency"] > 0).all()
    one_way = [parts_of(replace(how, consistency=()), network, way)["similarity"] for way in (pairs, pairs.exchanged)]
    assert_close(parts["similarity"], (one_way[0] + one_way[1]) / 2)
    assert parts["labels"][0] > 0
    if name not in ("dual_consistency", "gradient_icon"):
        assert_close(parts_of(how, network, pairs.exchanged)["consistency"], parts["consistency"])


def test_an_unknown_term_is_a_value_error_that_names_the_known() -> None:
    for place in ({"similarity": Term("mee")}, {"labels": Term("mee")}, {"regularisers": (Term("mee"),)},
                  {"consistency": (Term("mee"),)}, {"affine_regularisers": (Term("mee"),)}):  # fmt: skip
        with pytest.raises(ValueError, match="recipe toy: unknown .* 'mee'; known: "):
            Terms(recipe(**place), (1.0, 1.0))


def test_memory_that_ends_is_not_taken_for_images_that_are_too_small() -> None:
    def hungry(fixed: Tensor, moving: Tensor) -> Said:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    with pytest.raises(RuntimeError, match="you tried to allocate 8 bytes"):
        parts_of(recipe(**NONE), hungry, pairs_of())


def test_a_network_that_cannot_take_the_images_is_a_value_error() -> None:
    def too_deep(fixed: Tensor, moving: Tensor) -> Said:
        raise RuntimeError("Kernel size can't be greater than actual input size")

    with pytest.raises(ValueError, match=r"cannot register images of \(8, 12\), too small perhaps: Kernel size"):
        parts_of(recipe(), too_deep, pairs_of())
    with pytest.raises(ValueError, match=r"displacement of \(3, 2, 8, 12\) for such images, got \(3, 2, 4, 6\)"):
        parts_of(recipe(), Said(torch.zeros(3, 2, 4, 6)), pairs_of())
