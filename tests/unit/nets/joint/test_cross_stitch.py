"""Cross-stitch units against their formula, and what links the two paths or does not."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nets.joint import Joint
from nets.joint.cross_stitch import CrossStitch, StitchUnit

WIDTHS = (4, 6, 8)


def network(**settings: Any) -> CrossStitch:
    torch.manual_seed(1)
    return CrossStitch(2, labels=3, **{"widths": WIDTHS, **settings})


def answer(net: CrossStitch, seed: int = 0) -> Joint:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 1, 1, 13, 10, generator=generator)
    joint: Joint = net(images[0], images[1], torch.rand(1, 3, 13, 10, generator=generator).softmax(1))
    return joint


def reached(net: CrossStitch, output: Tensor) -> set[str]:
    """Names of the parameters on which an output depends."""
    names, weights = zip(*net.named_parameters(), strict=True)
    found = torch.autograd.grad(output.square().sum(), weights, allow_unused=True, retain_graph=True)
    return {name for name, gradient in zip(names, found, strict=True) if gradient is not None}


def test_a_unit_mixes_each_channel_by_its_own_matrix() -> None:
    unit = StitchUnit(2)
    alpha = torch.tensor([[[0.5, 2.0], [-1.0, 3.0]], [[1.0, 0.0], [0.25, 4.0]]])
    with torch.no_grad():
        unit.alpha.copy_(alpha)
    ours, theirs = torch.randn(2, 3, 2, 5, 4)
    for got, row in zip(unit(ours, theirs), (0, 1), strict=True):
        for channel in (0, 1):
            expected = alpha[channel, row, 0] * ours[:, channel] + alpha[channel, row, 1] * theirs[:, channel]
            torch.testing.assert_close(got[:, channel], expected)


def test_units_start_near_the_identity() -> None:
    unit = StitchUnit(3, start=0.05)
    torch.testing.assert_close(unit.alpha.detach(), torch.tensor([[0.95, 0.05], [0.05, 0.95]]).repeat(3, 1, 1))


@pytest.mark.parametrize("sees", ["pair", "fixed"])
def test_no_path_leads_from_one_task_to_the_other_if_they_are_not_linked(sees: str) -> None:
    for linked in (False, True):
        net = network(linked=linked, segmentation_sees=sees)
        said = answer(net)
        segmenting, registering = reached(net, said.fixed_logits), reached(net, said.registered.displacement_vox)
        assert bool(segmenting & registering) == linked
        assert any(name.startswith("registration.") for name in segmenting) == linked
        assert any(name.startswith("segmentation.") for name in registering) == linked


def test_both_have_as_many_parameters_up_to_the_alphas_and_the_same_first_weights() -> None:
    alone, linked = network(linked=False), network()
    ours, theirs = dict(linked.named_parameters()), dict(alone.named_parameters())
    alphas = {name for name in ours if name.endswith(".alpha")}
    assert set(ours) - alphas == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert sum(ours[name].numel() for name in alphas) == 4 * sum(m.shape[0] for m in linked.stitch_matrices().values())
    assert alphas
    assert alone.stitch_matrices() == {}


def test_units_at_the_identity_link_nothing() -> None:
    alone, linked = answer(network(linked=False)), answer(network(start=0.0))
    assert torch.equal(alone.fixed_logits, linked.fixed_logits)
    assert torch.equal(alone.registered.displacement_vox, linked.registered.displacement_vox)
    assert not torch.equal(answer(network()).fixed_logits, alone.fixed_logits)


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({}, {"encoder-0": 4, "encoder-1": 6, "encoder-2": 8, "decoder-1": 6}),
        ({"factor": 1}, {"encoder-0": 4, "encoder-1": 6, "encoder-2": 8, "decoder-1": 6, "decoder-0": 4}),
        ({"stitched": (1,)}, {"encoder-1": 6, "decoder-1": 6}),
        ({"stitched": (2, 2)}, {"encoder-2": 8}),
    ],
)
def test_matrices_are_told_by_level_in_the_order_of_the_features(
    settings: dict[str, Any], places: dict[str, int]
) -> None:
    matrices = network(**settings).stitch_matrices()
    assert {place: matrix.shape[0] for place, matrix in matrices.items()} == places
    assert list(matrices) == list(places)
    assert all(matrix.shape[1:] == (2, 2) and not matrix.requires_grad for matrix in matrices.values())


def test_matrices_are_a_copy() -> None:
    net = network()
    before = net.stitch_matrices()["encoder-1"]
    with torch.no_grad():
        net.units.get_parameter("encoder-1.alpha").zero_()
    assert before.abs().max() > 0
    assert not net.stitch_matrices()["encoder-1"].any()


def test_matrices_learn() -> None:
    net = network()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.stitch_matrices()
    said = answer(net)
    (said.fixed_logits.square().mean() + said.registered.displacement_vox.sum()).backward()
    optimiser.step()
    assert all(not torch.equal(before[place], after) for place, after in net.stitch_matrices().items())


def test_the_segmentation_path_may_see_the_fixed_image_alone() -> None:
    net = network(segmentation_sees="fixed", linked=False)
    fixed, moving = torch.rand(2, 1, 1, 13, 10)
    assert torch.equal(net(fixed, moving).fixed_logits, net(fixed, moving.flip(2)).fixed_logits)
    assert not torch.equal(net(fixed, moving).fixed_logits, net(fixed.flip(2), moving).fixed_logits)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"stitched": ()}, "stitched must name levels from 0 to 2"),
        ({"stitched": (1, 3)}, "stitched must name levels from 0 to 2"),
        ({"start": 1.5}, "start must be from 0 to 1, got 1.5"),
        ({"segmentation_sees": "moving"}, "segmentation_sees must be"),
        ({"widths": (4,)}, "two levels at least"),
        ({"factor": 4}, "factor must be 1 or 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        network(**settings)
