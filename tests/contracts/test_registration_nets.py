"""What every registration network must be, whatever its architecture and head, in 2-D and 3-D."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from covoxel.spatial import warp
from covoxel.spatial.field import compose
from covoxel.spatial.smoothing import refine
from nets.registration import REGISTRATION_NETS, Registered, RegistrationNet, count_parameters
from nets.registration.heads import HEADS

ODD = {2: (21, 14), 3: (13, 10, 9)}
SMALL: dict[str, dict[str, Any]] = {
    "c2fvit": {"channels": 8, "depth": 1},
    "cascade": {"stage_settings": {"encoder": (4, 4), "decoder": (4, 4)}, "stages": 2},
    "deformable-pyramid": {"widths": (4, 4, 6), "growth": 4, "depth": 2},
    "dual-prnet": {"widths": (4, 4, 6)},
    "lapirn": {"widths": ((4, 6), (4, 6, 8))},
    "transmorph": {"channels": 8, "depths": (2, 2), "heads": (2, 2), "window": 2},
    "voxelmorph-1": {"encoder": (4, 6, 8), "decoder": (8, 6, 4), "half": 4},
    "voxelmorph-2": {"encoder": (4, 6, 8), "decoder": (8, 6, 4), "half": 8, "last": (8, 4)},
}
AFFINE = {"c2fvit"}
OWN_HEAD = AFFINE | {"lapirn"}

Make = Callable[..., RegistrationNet]


def _makes() -> Iterator[Any]:
    """Every network with every head it takes, narrow so that the suite stays quick."""
    for name in REGISTRATION_NETS:
        small = SMALL.get(name, {})
        for head in ("",) if name in OWN_HEAD else sorted(HEADS):
            yield pytest.param((name, _with_head(name, small, head)), id=f"{name}-{head}".strip("-"))


def _with_head(name: str, small: dict[str, Any], head: str) -> dict[str, Any]:
    if name == "cascade":
        return {**small, "stage_settings": {**small["stage_settings"], "head": head}}
    return {**small, **({"head": head} if head else {})}


@pytest.fixture(params=[2, 3], ids=["2-D", "3-D"])
def ndim(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


@pytest.fixture(params=list(_makes()))
def make(request: pytest.FixtureRequest) -> Make:
    name, settings = request.param

    def build(ndim: int) -> RegistrationNet:
        torch.manual_seed(3)
        return REGISTRATION_NETS[name](ndim, **settings)

    return build


def pair(ndim: int, batch: int = 1, shape: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(2, batch, 1, *(shape or ODD[ndim]), generator=generator)
    return images[0], images[1]


def awake(net: RegistrationNet) -> RegistrationNet:
    """The network with last layers as large as a trained one's: it moves things by about a voxel."""
    torch.manual_seed(5)
    for parameter in net.parameters():
        if 0 < parameter.detach().abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.05)
    return net


def test_an_untrained_network_says_zero(make: Make, ndim: int) -> None:
    said = make(ndim)(*pair(ndim), inverse=True)
    assert said.displacement_vox.shape == (1, ndim, *ODD[ndim])
    assert said.displacement_vox.abs().max() < 0.02
    assert all(level.displacement_vox.abs().max() < 0.02 for level in said.levels)
    if said.moving_from_fixed_vox is not None:
        assert (said.moving_from_fixed_vox - torch.eye(ndim + 1)).abs().max() < 0.02


def test_every_parameter_has_a_gradient(make: Make, ndim: int) -> None:
    net = awake(make(ndim))
    fixed, moving = pair(ndim)
    said = net(fixed, moving)
    assert said.displacement_vox.abs().max() > 0.02
    (warp(moving, said.displacement_vox) - fixed).square().mean().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_both_images_count(make: Make, ndim: int) -> None:
    images = [image.requires_grad_() for image in pair(ndim)]
    awake(make(ndim))(*images).displacement_vox.square().sum().backward()
    assert all(image.grad is not None and image.grad.abs().max() > 0 for image in images)


@pytest.mark.parametrize("side", [1, 5])
def test_an_image_smaller_than_the_stride_is_registered(make: Make, ndim: int, side: int) -> None:
    shape = (side, *[6, 3][: ndim - 1])
    said = awake(make(ndim))(*pair(ndim, shape=shape), inverse=True)
    assert said.displacement_vox.shape == (1, ndim, *shape)
    assert torch.isfinite(said.displacement_vox).all()


def test_a_batch_says_what_its_pairs_say_alone(make: Make, ndim: int) -> None:
    net = awake(make(ndim)).eval()
    fixed, moving = pair(ndim, batch=3)
    together = net(fixed, moving)
    for i in range(3):
        alone = net(fixed[i : i + 1], moving[i : i + 1])
        for ours, theirs in zip(fields(together), fields(alone), strict=True):
            torch.testing.assert_close(ours[i : i + 1], theirs, atol=2e-5, rtol=1e-4)


def test_a_seed_fixes_weights_and_answer(make: Make, ndim: int) -> None:
    one, two = make(ndim), make(ndim)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    images = pair(ndim)
    assert torch.equal(one(*images).displacement_vox, two(*images).displacement_vox)
    assert count_parameters(one) == sum(p.numel() for p in one.parameters())


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_says_nearly_the_same_in_float32(make: Make, ndim: int, how: str) -> None:
    net = awake(make(ndim)).eval()
    images = pair(ndim)
    exact = net(*images)
    if how == "weights":
        net = net.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        rough = net(*images)
    for ours, theirs in zip(fields(rough), fields(exact), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).square().mean().sqrt() < 1e-3 + 0.05 * theirs.square().mean().sqrt()


def test_levels_are_cells_of_the_image_and_end_in_the_answer(make: Make, ndim: int) -> None:
    said = awake(make(ndim))(*pair(ndim))
    for level in said.levels:
        coarse = level.displacement_vox.shape[2:]
        assert any(coarse == tuple(-(-side // f) for side in ODD[ndim]) for f in (1, 2, 4, 8, 16))
        if level.velocity_vox is not None:
            assert level.velocity_vox.shape[2:] == (ndim, *coarse)
    if said.levels:
        finest = said.levels[-1].displacement_vox
        factor = 1 if finest.shape == said.displacement_vox.shape else 2
        shown = finest if factor == 1 else 2 * refine(finest, [2] * ndim, ODD[ndim])
        assert torch.equal(shown, said.displacement_vox)


def test_a_cheap_inverse_undoes_the_displacement(make: Make, ndim: int) -> None:
    shape = {2: (32, 28), 3: (16, 16, 14)}[ndim]
    said = awake(make(ndim))(*pair(ndim, shape=shape), inverse=True)
    if said.inverse_displacement_vox is None:
        assert said.velocity_vox is None
        assert said.moving_from_fixed_vox is None
        return
    there = said.displacement_vox
    rest = compose(there, said.inverse_displacement_vox)
    inner = (..., *[slice(3, -3)] * ndim)
    assert rest[inner].square().mean() < 0.1 * there[inner].square().mean()


@pytest.mark.parametrize(
    ("fixed", "moving", "rule"),
    [
        ((1, 1, 8, 8, 8), (1, 1, 8, 8, 7), "shape of fixed"),
        ((1, 2, 8, 8, 8), (1, 2, 8, 8, 8), r"must be \(batch, 1"),
        ((1, 1, 8, 8), (1, 1, 8, 8), "with 3 sides"),
    ],
)
def test_images_that_do_not_fit_are_refused(fixed: tuple[int, ...], moving: tuple[int, ...], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        REGISTRATION_NETS["voxelmorph-1"](3)(torch.zeros(fixed), torch.zeros(moving))


def fields(said: Registered) -> list[Tensor]:
    """All fields of an answer."""
    own = [said.displacement_vox, said.velocity_vox, said.moving_from_fixed_vox]
    return [field for field in own if field is not None] + [level.displacement_vox for level in said.levels]
