"""The weighted loss: nnU-Net's own where all weights are 1, and its ignore label where they are 0."""

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor
from torch.nn import functional

from covoxel.external.nnunet.loss import WeightedLoss

SIDES = [(8, 12, 8), (4, 6, 4), (2, 3, 2)]


def theirs(batch_dice: bool, ignore: int | None = None) -> DeepSupervisionWrapper:
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, 1, 1, ignore, MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, [2 / 3, 1 / 3, 0])


def drawn() -> tuple[list[Tensor], Tensor]:
    outputs = [torch.randn(2, 4, *sides, requires_grad=True) for sides in SIDES]
    return outputs, torch.randint(0, 4, (2, 1, *SIDES[0]), dtype=torch.int16)


def smaller(labels: Tensor) -> list[Tensor]:
    return [functional.interpolate(labels.float(), sides, mode="nearest-exact") for sides in SIDES]


@pytest.mark.parametrize("batch_dice", [False, True])
def test_with_weights_of_one_it_is_nnunets_loss_and_has_its_gradient(batch_dice: bool) -> None:
    outputs, labels = drawn()
    wanted = theirs(batch_dice)(outputs, smaller(labels))
    for weights in (None, torch.ones(2, 1, *SIDES[0])):
        found = WeightedLoss(batch_dice, 3)(outputs, labels, weights, torch.ones(2))
        assert abs(float((found - wanted).detach())) < 1e-6
        ours, nnunets = (torch.autograd.grad(loss, outputs[0], retain_graph=True)[0] for loss in (found, wanted))
        torch.testing.assert_close(ours, nnunets, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_weights_of_zero_are_nnunets_ignore_label(batch_dice: bool) -> None:
    outputs, labels = drawn()
    weights = (torch.rand(2, 1, *SIDES[0]) < 0.7).float()
    ignored = torch.where(weights > 0, labels, 4)
    wanted = theirs(batch_dice, ignore=4)(outputs, [each.to(torch.int16) for each in smaller(ignored)])
    found = WeightedLoss(batch_dice, 3)(outputs, labels, weights, torch.ones(2))
    assert abs(float((found - wanted).detach())) < 1e-6


def test_a_case_of_half_the_weight_has_half_the_part() -> None:
    outputs, labels = drawn()
    loss = WeightedLoss(False, 3)
    each = [loss([o[[n]] for o in outputs], labels[[n]], None, torch.ones(1)) for n in (0, 1)]
    found = loss(outputs, labels, None, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(found, (each[0] + 0.5 * each[1]) / 2)


def test_where_nothing_counts_nothing_is_learnt() -> None:
    outputs, labels = drawn()
    found = WeightedLoss(False, 3)(outputs, labels, torch.zeros(2, 1, *SIDES[0]), torch.ones(2))
    assert not torch.autograd.grad(found, outputs[0])[0].any()


def test_a_network_of_one_output_has_a_loss() -> None:
    outputs, labels = drawn()
    assert float(WeightedLoss(False, 1)(outputs[:1], labels, None, torch.ones(2)).detach()) > 0
