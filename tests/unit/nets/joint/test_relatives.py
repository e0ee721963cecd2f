"""What is particular to the joint networks beside cross-stitch: who sees what, phases, propagated labels, maps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from covoxel.spatial import warp
from nets.joint import JOINT_NETS, JointNet
from nets.joint.informed import Informed
from nets.joint.istn import ISTN
from nets.joint.ncr_net import NCRNet
from nets.registration import Registered, RegistrationNet

WIDTHS = (4, 6, 8)
BACKBONE: dict[str, Any] = {"registration_settings": {"widths": ((4, 6), (4, 6, 8))}}


def images(batch: int = 1) -> tuple[Tensor, Tensor]:
    pair = torch.rand(2, batch, 1, 13, 10, generator=torch.Generator().manual_seed(4))
    return pair[0], pair[1]


def probabilities(labels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.rand(1, labels, 13, 10, generator=generator).mul(5).softmax(1)


def seeded(name: str, **settings: Any) -> JointNet:
    torch.manual_seed(2)
    return JOINT_NETS[name](2, labels=3, **settings)


def awake(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        if 0 < parameter.detach().abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.05)
    return net


class _Spy(RegistrationNet):
    """Remembers what it is asked; says a shift of one voxel."""

    def __init__(self) -> None:
        super().__init__(2)
        self.shift = nn.Parameter(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
        self.seen: tuple[Tensor, Tensor] | None = None

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        self.seen = fixed, moving
        return Registered(self.shift + 0 * (fixed + moving).mean() + self.shift.new_zeros(1, 2, *fixed.shape[2:]))


# One encoder, two decoders


def test_one_encoder_segments_an_image_alike_whatever_its_partner() -> None:
    net = seeded("shared-encoder", widths=WIDTHS).eval()
    fixed, moving = images()
    there, back = net(fixed, moving, probabilities()), net(moving, fixed)
    torch.testing.assert_close(there.fixed_logits, back.moving_logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(there.moving_logits, back.fixed_logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(there.fixed_logits, there.moving_logits, atol=1e-2)


def test_one_u_net_uses_the_moving_image_for_the_fixed_segmentation() -> None:
    net = seeded("shared-unet", widths=WIDTHS).eval()
    fixed, moving = images()
    assert not torch.allclose(net(fixed, moving).fixed_logits, net(fixed, moving.flip(2)).fixed_logits, atol=1e-2)
    assert net(fixed, moving).moving_logits is None
    both = seeded("shared-unet", widths=WIDTHS, segment_moving=True)(fixed, moving)
    assert both.moving_logits is not None
    assert not torch.equal(both.fixed_logits, both.moving_logits)


@pytest.mark.parametrize("name", ["shared-unet", "shared-encoder"])
def test_a_shared_encoder_learns_from_either_task(name: str) -> None:
    net = awake(seeded(name, widths=WIDTHS))
    said = net(*images(), probabilities())
    for loss in (said.fixed_logits.square().sum(), said.registered.displacement_vox.square().sum()):
        gradients = torch.autograd.grad(loss, list(net.encoder.parameters()), retain_graph=True)
        assert all(gradient.abs().max() > 0 for gradient in gradients)


# NCR-Net


def test_phase_one_trains_encoder_and_displacement_alone() -> None:
    net = NCRNet(2, labels=3, widths=WIDTHS, outputs=2)
    for phase in (1, 2):
        net.train_phase(phase)
        net.zero_grad(set_to_none=True)
        said = net(*images())
        assert (said.foreign is None) == (phase == 1)
        assert len(said.foreign_levels) == (0 if phase == 1 else 2)
        said.registered.displacement_vox.square().sum().backward()
        frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
        second = {name for name, _ in net.named_parameters() if name.startswith(("correspondence.", "foreign."))}
        assert second
        assert frozen == (second if phase == 1 else set())
    with pytest.raises(ValueError, match="phase must be 1 or 2, got 3"):
        net.train_phase(3)


def test_propagated_labels_are_doubted_where_there_is_no_counterpart() -> None:
    net = awake(NCRNet(2, labels=3, widths=WIDTHS, outputs=1))
    fixed, moving = images()
    labels = probabilities()
    said = net(fixed, moving, labels)
    assert said.foreign is not None
    moved, doubt = warp(labels, said.registered.displacement_vox), said.foreign.sigmoid()
    assert doubt.max() - doubt.min() > 0.01
    assert (moved - labels).abs().max() > 0.01
    torch.testing.assert_close(said.fixed_logits.softmax(1), (1 - doubt) * moved + doubt / 3, atol=1e-4, rtol=1e-3)
    net.train_phase(1)
    torch.testing.assert_close(net(fixed, moving, labels).fixed_logits.softmax(1), moved, atol=1e-4, rtol=1e-3)
    assert not net(fixed, moving).fixed_logits.any()


def test_nothing_but_the_two_images_moves_ncr_net() -> None:
    net = awake(NCRNet(2, labels=3, widths=WIDTHS, outputs=2))
    one, other = net(*images(), probabilities()), net(*images())
    assert torch.equal(one.registered.displacement_vox, other.registered.displacement_vox)


def test_more_outputs_than_resolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="outputs must be from 1 to 2 with 3 widths, got 3"):
        NCRNet(2, labels=3, widths=WIDTHS, outputs=3)


# Segmentation-informed registration


def test_the_registration_network_is_told_the_labels_and_does_not_teach_the_segmenter() -> None:
    for through in (False, True):
        torch.manual_seed(0)
        net = awake(Informed(2, labels=3, through=through, segmentation_settings={"widths": (4, 6)}, **BACKBONE))
        loss = net(*images()).registered.displacement_vox.square().sum()
        found = torch.autograd.grad(loss, list(net.segmentation.parameters()), allow_unused=True, retain_graph=True)
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in found) == through
        worked_in = torch.autograd.grad(loss, list(net.registration.work_in.parameters()))
        assert all(gradient.abs().max() > 0 for gradient in worked_in)


def test_given_moving_labels_take_the_place_of_the_predicted_ones() -> None:
    net = awake(Informed(2, labels=3, segmentation_settings={"widths": (4, 6)}, **BACKBONE)).eval()
    fixed, moving = images()
    alone = net(fixed, moving)
    assert alone.moving_logits is not None
    theirs, given = alone.moving_logits.softmax(1), probabilities()
    for labels in (theirs, given):
        by_hand = net.registration(fixed, moving, alone.fixed_logits.softmax(1), labels).displacement_vox
        torch.testing.assert_close(net(fixed, moving, labels).registered.displacement_vox, by_hand)
    assert torch.equal(net(fixed, moving, theirs).registered.displacement_vox, alone.registered.displacement_vox)
    assert not torch.equal(net(fixed, moving, given).registered.displacement_vox, alone.registered.displacement_vox)


def test_an_untrained_network_shows_the_backbone_the_plain_images() -> None:
    net = Informed(2, labels=3, segmentation_settings={"widths": (4, 6)}, **BACKBONE)
    net.registration.backbone = _Spy()
    fixed, moving = images()
    net(fixed, moving, probabilities())
    assert net.registration.backbone.seen is not None
    for seen, image in zip(net.registration.backbone.seen, (fixed, moving), strict=True):
        assert 0 < (seen - image).abs().max() < 1e-2


# Image-and-spatial transformer network


def test_of_two_labels_the_map_is_the_probability_of_the_structure() -> None:
    net = ISTN(2, labels=2, transformer_settings={"widths": (4, 6)}, **BACKBONE)
    soft = probabilities(2)
    assert torch.equal(net.structure_map(soft), soft[:, 1:])
    three = ISTN(2, labels=3, transformer_settings={"widths": (4, 6)}, **BACKBONE).structure_map(probabilities())
    torch.testing.assert_close(three, probabilities()[:, 1:2] / 2 + probabilities()[:, 2:])


def test_the_backbone_sees_the_maps_and_no_more() -> None:
    net = ISTN(2, labels=3, transformer_settings={"widths": (4, 6)}, **BACKBONE).eval()
    net.registration = spy = _Spy()
    fixed, moving = images()
    said = net(fixed, moving)
    assert said.moving_logits is not None
    wanted = [net.structure_map(logits.softmax(1)) for logits in (said.fixed_logits, said.moving_logits)]
    assert spy.seen is not None
    assert all(torch.equal(seen, wants) for seen, wants in zip(spy.seen, wanted, strict=True))
    net(fixed, moving, probabilities())
    assert torch.equal(spy.seen[0], wanted[0])
    assert torch.equal(spy.seen[1], net.structure_map(probabilities()))


def test_registration_teaches_the_image_transformer() -> None:
    net = awake(ISTN(2, labels=3, transformer_settings={"widths": (4, 6)}, **BACKBONE))
    loss = net(*images()).registered.displacement_vox.square().sum()
    gradients = torch.autograd.grad(loss, list(net.transformer.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)
