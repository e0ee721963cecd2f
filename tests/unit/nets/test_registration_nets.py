"""What is particular to one registration network: widths, schedules, bounds; and that two of them learn a shift."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from covoxel.spatial import warp
from covoxel.spatial.smoothing import gaussian
from nets.registration import REGISTRATION_NETS, Registered, RegistrationNet, count_parameters
from nets.registration.cascade import Cascade, folded_share

TINY: dict[str, Any] = {"encoder": (4, 4), "decoder": (4, 4), "half": 4, "last": (4,)}


def textures(shape: tuple[int, ...], batch: int = 1, sigma: float = 1.5) -> Tensor:
    noise = torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(2))
    smooth = gaussian(noise, [sigma] * len(shape))
    return smooth / smooth.abs().max()


@pytest.mark.parametrize(("name", "papers"), [("voxelmorph-1", 259_675), ("voxelmorph-2", 300_547)])
def test_voxelmorph_has_the_widths_of_the_paper(name: str, papers: int) -> None:
    assert count_parameters(REGISTRATION_NETS[name](3)) == papers


def test_a_velocity_is_integrated_at_half_resolution() -> None:
    net = REGISTRATION_NETS["voxelmorph-1"](2, head="stationary", **TINY)
    said = net(*torch.rand(2, 1, 1, 15, 12))
    assert said.velocity_vox is not None
    assert said.velocity_vox.shape == (1, 1, 2, 8, 6)
    full = REGISTRATION_NETS["voxelmorph-1"](2, head="time-varying", head_settings={"steps": 3}, factor=1, **TINY)
    assert full(*torch.rand(2, 1, 1, 15, 12)).velocity_vox.shape == (1, 3, 2, 15, 12)
    with pytest.raises(ValueError, match="factor must be 1 or 2, got 3"):
        REGISTRATION_NETS["voxelmorph-1"](2, factor=3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("voxelmorph-1", {"head": "stationary"}), ("dual-prnet", {"widths": (8, 8, 16)}), ("c2fvit", {"channels": 16})],
)
def test_a_few_steps_bring_a_shifted_image_nearer(name: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    fixed = textures((32, 28), sigma=3.0)
    moving = torch.roll(fixed, (2, -1), (2, 3))
    net = REGISTRATION_NETS[name](2, **settings)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)

    def loss() -> Tensor:
        inner = (..., slice(4, -4), slice(4, -4))
        return (warp(moving, net(fixed, moving).displacement_vox) - fixed)[inner].square().mean()

    before = loss().item()
    for _ in range(40):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.3 * before


class _Push(RegistrationNet):
    """Says the same displacement whatever it sees."""

    def __init__(self, ndim: int, displacement_vox: Tensor) -> None:
        super().__init__(ndim)
        self.field = nn.Parameter(displacement_vox)

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        field = self.field.expand(fixed.shape[0], -1, *fixed.shape[2:])
        return Registered(field, inverse_displacement_vox=-field)


def cascade_of(fields: list[Tensor], **settings: Any) -> Cascade:
    net = Cascade(2, stage_settings=TINY, stages=len(fields), **settings)
    net.stages = nn.ModuleList(_Push(2, field) for field in fields)
    return net


def shift(i: float, j: float) -> Tensor:
    return torch.tensor([float(i), float(j)]).view(1, 2, 1, 1)


def test_a_cascade_composes_its_stages_and_repeats_them_out_of_training() -> None:
    net = cascade_of([shift(1, 0), shift(0.5, 2)], repeats=3)
    images = torch.rand(2, 1, 1, 12, 10)
    for training, times in ((True, 1), (False, 3)):
        said = net.train(training)(*images, inverse=True)
        expected = (times * shift(1.5, 2)).expand(1, 2, 12, 10)
        torch.testing.assert_close(said.displacement_vox, expected)
        torch.testing.assert_close(said.inverse_displacement_vox, -expected)


def test_each_stage_sees_the_moving_image_as_warped_so_far() -> None:
    seen: list[Tensor] = []
    net = cascade_of([shift(1, 0), shift(0, 2)])
    net.stages[1].register_forward_pre_hook(lambda module, images: seen.append(images[1]))
    fixed, moving = torch.rand(2, 1, 1, 12, 10)
    net(fixed, moving)
    torch.testing.assert_close(seen[0][..., :-1, :], moving[..., 1:, :])


def test_repeats_stop_for_the_pair_that_would_fold_and_go_on_for_the_other() -> None:
    wave = torch.sin(torch.arange(24.0) * 0.8).view(1, 1, 24, 1).expand(1, 1, 24, 10)
    field = torch.cat([wave, torch.zeros_like(wave)], 1)
    assert folded_share(0.7 * field) == 0
    assert folded_share(3 * field) > 0.2

    class Wild(_Push):
        """Once a wave that does not fold, then one that does, for bright images; a shift for others."""

        calls = 0

        def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
            self.calls += 1
            bright = (fixed.mean((1, 2, 3)) > 0.5).view(-1, 1, 1, 1)
            wild = (0.7 if self.calls == 1 else 3.0) * self.field
            return Registered(torch.where(bright, wild, shift(0, 1).expand_as(field)))

    fixed = torch.stack([torch.ones(1, 24, 10), torch.zeros(1, 24, 10)])
    moving = torch.rand(2, 1, 24, 10)
    for folds, stopped in ((0.0, True), (1.0, False)):
        net = cascade_of([field], repeats=4, folds=folds).eval()
        net.stages = nn.ModuleList([Wild(2, field)])
        said = net(fixed, moving).displacement_vox
        assert torch.equal(said[0], 0.7 * field[0]) == stopped
        torch.testing.assert_close(said[1:], 4 * shift(0, 1).expand(1, 2, 24, 10))


def test_schedules_of_a_cascade() -> None:
    images = torch.rand(2, 1, 1, 12, 10)
    assert Cascade(2, stage_settings=TINY)(*images).levels == ()
    each = Cascade(2, stage_settings=TINY, schedule="each")(*images)
    assert len(each.levels) == 3
    assert torch.equal(each.levels[-1].displacement_vox, each.displacement_vox)
    frozen = Cascade(2, stage_settings=TINY, schedule="frozen", affine="c2fvit", affine_settings={"channels": 8})
    for stage in (0, 1, 3):
        frozen.train_stage(stage)
        frozen.zero_grad()
        frozen(*images).displacement_vox.square().sum().backward()
        trained = {int(name.split(".")[1]) for name, p in frozen.named_parameters() if p.grad is not None}
        assert trained == {stage}
    frozen.train_stage(None)
    assert all(p.requires_grad for p in frozen.parameters())
    with pytest.raises(ValueError, match="stage must be from 0 to 3, got 4"):
        frozen.train_stage(4)
    with pytest.raises(ValueError, match="schedule must be"):
        Cascade(2, schedule="sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("ndim", [2, 3])
def test_affine_maps_are_bounded_and_as_free_as_was_asked(ndim: int) -> None:
    images = torch.rand(2, 1, 1, *(14, 12, 10)[:ndim])
    for freedom in ("rigid", "similarity", "affine"):
        net = REGISTRATION_NETS["c2fvit"](ndim, freedom=freedom, channels=8, depth=1)
        for stage in net.stages:
            nn.init.normal_(stage.last.bias, std=20)
        said = net(*images, inverse=True)
        matrix = said.moving_from_fixed_vox[0].detach()
        scales = torch.linalg.svdvals(matrix[:-1, :-1])
        spread = float(scales.max() - scales.min())
        assert (spread < 1e-4) == (freedom != "affine")
        if freedom == "rigid":
            torch.testing.assert_close(scales, torch.ones(ndim))
        if freedom == "similarity":
            assert 0.5 <= scales.min() <= scales.max() <= 1.5
            assert abs(float(scales[0]) - 1) > 0.1


def test_an_affine_map_turns_about_the_centre_of_mass() -> None:
    net = REGISTRATION_NETS["c2fvit"](2, freedom="rigid", centre="mass", channels=8, depth=1)
    nn.init.constant_(net.stages[0].last.bias[2:], 0.5)
    fixed = torch.zeros(2, 1, 20, 16)
    fixed[0, 0, 5, 3] = fixed[1, 0, 12, 9] = 1
    said = net(fixed, fixed).displacement_vox
    for at in (said[0, :, 5, 3], said[1, :, 12, 9]):
        assert at.abs().max() < 0.02
    assert said[0, :, 12, 9].abs().max() > 1


def test_a_stage_of_an_affine_network_sees_the_moving_image_as_mapped_so_far() -> None:
    net = REGISTRATION_NETS["c2fvit"](2, freedom="rigid", channels=8, depth=1)
    nn.init.constant_(net.stages[0].last.bias[0], 0.25)  # tanh of it times half of the longest side, 32: 3.9 voxels
    ramp = torch.arange(32.0).view(1, 1, 32, 1).expand(1, 1, 32, 24)
    seen: list[Tensor] = []
    net.stages[1].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    net(ramp, ramp)
    moved = seen[0][:, 1:, 3:-3] - seen[0][:, :1, 3:-3]
    torch.testing.assert_close(moved, torch.full_like(moved, 16 * float(torch.tensor(0.25).tanh())), atol=0.02, rtol=0)


def test_affine_maps_of_the_deformable_pyramid_add_up_and_are_undone() -> None:
    net = REGISTRATION_NETS["deformable-pyramid"](2, widths=(4, 4, 6), growth=4, depth=2, head="stationary")
    for level in net.levels:
        nn.init.constant_(level.affine.last.bias[2], 1.0)  # one voxel of the level along the first axis
    said = net(*torch.rand(2, 1, 1, 32, 24), inverse=True)
    ways = [level.displacement_vox[0, :, 1, 1] for level in said.levels]
    torch.testing.assert_close(torch.stack(ways)[:, 0], torch.tensor([1.0, 3.0, 7.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(said.displacement_vox, shift(14, 0).expand(1, 2, 32, 24), atol=0.1, rtol=0)
    torch.testing.assert_close(said.inverse_displacement_vox, shift(-14, 0).expand(1, 2, 32, 24), atol=0.1, rtol=0)


def test_levels_of_the_deformable_pyramid_have_an_affine_map() -> None:
    net = REGISTRATION_NETS["deformable-pyramid"](2, widths=(4, 4, 6), growth=4, depth=2)
    said = net(*torch.rand(2, 1, 1, 20, 16))
    assert [tuple(level.displacement_vox.shape[2:]) for level in said.levels] == [(3, 2), (5, 4), (10, 8)]
    assert all(level.moving_from_fixed_vox.shape == (1, 3, 3) for level in said.levels)
