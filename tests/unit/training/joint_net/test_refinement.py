"""Refinement at test time: structures of both images agree better, without a fixed label, and never worse."""

import math

import pytest
import torch
from torch import Tensor, nn

from covoxel.spatial import warp
from covoxel.spatial.field import jacobian_determinant
from covoxel.training.joint_net import refine_structures
from nets.joint import JOINT_NETS
from tests.unit.training.joint_net.toys import Joint, net
from tests.unit.training.registration.toys import SHIFT, Said, blob

SHAPE = (24, 20)


def images(batch: int = 1) -> tuple[Tensor, Tensor]:
    """Discs of which the moving one lies `SHIFT` voxels farther along the first axis."""
    centres = torch.tensor([11.0, 9.5]), torch.tensor([11.0 + SHIFT, 9.5])
    fixed, moving = ((blob(SHAPE, centre, 4.0) > 0.5).float() for centre in centres)
    return fixed.expand(batch, 1, *SHAPE), moving.expand(batch, 1, *SHAPE)


class Sees(nn.Module):
    """Says that the structure is where an image is bright, and a displacement of `step` voxels along the first axis."""

    def __init__(self, step: float = 0.0, both: bool = True) -> None:
        super().__init__()
        self.step, self.both = nn.Parameter(torch.tensor(step)), both

    def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
        along = torch.ones_like(fixed) * self.step
        logits = [torch.cat([-10 * (2 * x - 1), 10 * (2 * x - 1)], 1) for x in (fixed, moving)]
        return Joint(Said(torch.cat([along, 0 * along], 1)), logits[0], logits[1] if self.both else None)


@pytest.mark.parametrize("step", [0.0, 1.0, -1.0])
def test_structures_come_to_lie_on_one_another(step: float) -> None:
    """Whatever the network said of the transform; the field stays smooth and does not fold."""
    fixed, moving = images()
    network = Sees(step)
    refined = refine_structures(network, fixed, moving, steps=60)
    assert refined.after < 0.1 * refined.before
    moved = warp(moving, refined.displacement_vox)
    assert (moved - fixed).abs().mean() < 0.3 * (moving - fixed).abs().mean()
    assert refined.displacement_vox[0, 0][fixed[0, 0] > 0].mean() > step + 0.5  # towards the moving disc
    assert jacobian_determinant(refined.displacement_vox).min() > 0
    assert network.step.grad is None
    assert float(network.step.detach()) == step


def test_no_steps_leave_what_the_network_said() -> None:
    refined = refine_structures(Sees(1.0), *images(), steps=0)
    assert torch.equal(refined.displacement_vox[:, :1], torch.ones(1, 1, *SHAPE))
    assert torch.equal(refined.before, refined.after)


def test_given_moving_labels_take_the_place_of_what_is_said_and_are_needed_where_nothing_is() -> None:
    fixed, moving = images()
    elsewhere = moving.roll(3, 2)
    labels = torch.cat([1 - elsewhere, elsewhere], 1)
    refined = refine_structures(Sees(both=False), fixed, moving, labels, steps=60)
    assert float(refined.displacement_vox[0, 0][fixed[0, 0] > 0].mean()) == pytest.approx(SHIFT + 3, abs=1.0)
    with pytest.raises(
        ValueError, match="moving_labels must be given for a network that segments the fixed image alone"
    ):
        refine_structures(Sees(both=False), fixed, moving)


def test_pairs_do_not_depend_on_their_batch_and_none_gets_worse() -> None:
    """With a rate that is far too large, too, and one pair that agrees already."""
    fixed, moving = images(2)
    moving = torch.cat([moving[:1], fixed[:1]])
    both = refine_structures(Sees(), fixed, moving, steps=10)
    alone = refine_structures(Sees(), fixed[:1], moving[:1], steps=10)
    torch.testing.assert_close(both.displacement_vox[:1], alone.displacement_vox, atol=1e-5, rtol=1e-5)
    wild = refine_structures(Sees(), fixed, moving, steps=7, rate=30.0)
    assert (wild.after <= wild.before).all()
    assert not wild.displacement_vox[1].any()


def test_only_the_mask_is_compared() -> None:
    fixed, moving = images()
    refined = refine_structures(Sees(), fixed, moving, steps=20, mask=torch.zeros_like(fixed))
    assert refined.before == refined.after == 0
    assert not refined.displacement_vox.any()


@pytest.mark.parametrize("ndim", [2, 3])
def test_maps_of_istn_are_what_it_registers(ndim: int) -> None:
    """Three labels make one map of grey levels, and the displacement of its network is where it begins."""
    torch.manual_seed(0)
    istn = JOINT_NETS["istn"](
        ndim, labels=3, transformer_settings={"widths": (4, 6)}, registration_settings={"widths": ((4, 6), (4, 6))}
    )
    shape = (12, 10, 9)[:ndim]
    pair = torch.rand(2, 1, 1, *shape, generator=torch.Generator().manual_seed(3))
    labels = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(4)).mul(4).softmax(1)
    for given in (None, labels):
        refined = refine_structures(istn, pair[0], pair[1], given, steps=5)
        with torch.no_grad():
            said = istn.eval()(pair[0], pair[1], given)
            theirs = said.moving_logits.softmax(1) if given is None else given
            of, to = istn.structure_map(theirs), istn.structure_map(said.fixed_logits.softmax(1))
        apart = (warp(of, said.registered.displacement_vox) - to).square().mean()
        torch.testing.assert_close(refined.before, apart[None])
        assert refined.after < refined.before
        assert refined.displacement_vox.shape == (1, ndim, *shape)


def test_it_works_where_gradients_are_off_and_with_any_joint_network() -> None:
    with torch.no_grad():
        refined = refine_structures(net("shared-encoder"), *images(), steps=5)
    assert not refined.displacement_vox.requires_grad
    assert refined.displacement_vox.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"steps": -1}, "steps must not be negative, got -1"),
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"regularity": math.nan}, "regularity must not be negative, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        refine_structures(Sees(), *images(), **settings)  # type: ignore[arg-type]


def test_a_displacement_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="a displacement that is not finite"):
        refine_structures(Sees(math.nan), *images())
