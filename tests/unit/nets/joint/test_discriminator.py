"""The patch discriminator: sizes, what a logit sees, and that it learns to tell aligned pairs."""

import pytest
import torch
from torch.nn import functional

from covoxel.spatial.smoothing import gaussian
from nets.joint.discriminator import PatchDiscriminator


@pytest.mark.parametrize("shape", [(21, 14), (13, 10, 9), (1, 5), (3, 1, 2), (1, 1, 1)])
@pytest.mark.parametrize("widths", [(), (4,), (4, 6)])
def test_a_logit_a_cell_and_a_confidence_a_voxel(shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    net = PatchDiscriminator(len(shape), widths=widths, width=4)
    pair = torch.rand(2, 2, 1, *shape)
    factor = 2 ** len(widths)
    assert net(*pair).shape == (2, 1, *(-(-side // factor) for side in shape))
    confidence = net.confidence(*pair)
    assert confidence.shape == (2, 1, *shape)
    assert ((confidence > 0) & (confidence < 1)).all()


@pytest.mark.parametrize(("widths", "cell", "patch"), [((), 10, slice(8, 13)), ((4,), 5, slice(6, 15))])
def test_a_logit_sees_its_patch_alone(widths: tuple[int, ...], cell: int, patch: slice) -> None:
    net = PatchDiscriminator(2, widths=widths)
    candidate, fixed = torch.rand(2, 1, 1, 21, 21).requires_grad_().unbind(0)
    seen = torch.autograd.grad(net(candidate, fixed)[0, 0, cell, cell], [candidate, fixed])
    for gradient in seen:
        assert gradient[0, 0, patch, patch].abs().max() > 0
        assert gradient.count_nonzero() == gradient[0, 0, patch, patch].count_nonzero()


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_half_precision_gives_full_logits(how: str) -> None:
    net = PatchDiscriminator(3, widths=(4,), width=4)
    pair = torch.rand(2, 1, 1, 8, 7, 6)
    exact = net(*pair)
    net = net.to(torch.bfloat16) if how == "weights" else net
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        rough, confidence = net(*pair), net.confidence(*pair)
    assert rough.dtype == confidence.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)


def test_it_learns_where_a_pair_is_aligned() -> None:
    """Told of whole pairs, half of which is astray in some, it is confident in the other half alone."""
    torch.manual_seed(0)
    fixed = gaussian(torch.randn(8, 1, 24, 24), [1.5, 1.5]) * 4
    aligned = fixed + 0.1 * torch.randn_like(fixed)
    astray = torch.where(torch.arange(24) < 12, aligned, aligned.roll(5, 2))
    net = PatchDiscriminator(2, widths=(8,), width=8)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        good, bad = net(aligned, fixed), net(astray, fixed)
        loss = functional.softplus(-good).mean() + functional.softplus(bad).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trust = net.confidence(astray, fixed)
    assert trust[..., :10].mean() > trust[..., 14:].mean() + 0.3
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_pairs_that_do_not_fit_are_refused() -> None:
    net = PatchDiscriminator(2)
    for candidate, fixed in (((1, 1, 8, 8), (1, 1, 8, 7)), ((1, 2, 8, 8), (1, 2, 8, 8)), ((1, 1, 8), (1, 1, 8))):
        with pytest.raises(ValueError, match=r"must be \(batch, 1, \*shape\) with 2 sides"):
            net(torch.zeros(candidate), torch.zeros(fixed))
    with pytest.raises(ValueError, match="ndim must be 2 or 3, got 1"):
        PatchDiscriminator(1)
