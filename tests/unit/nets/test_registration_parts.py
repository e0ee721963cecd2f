"""Correlation, convolution, affine maps, windows and heads of the registration networks against plain formulas."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from covoxel.spatial import voxel_coordinates, warp
from covoxel.spatial.field import compose
from covoxel.spatial.smoothing import cell_means, gaussian
from covoxel.spatial.transform import apply_matrix
from nets.registration import affine, parts
from nets.registration.heads import HEADS, Head, Motion, make_head
from nets.registration.swin import SwinBlock, WindowAttention, unwindows, windows


@pytest.mark.parametrize("patch", [0, 1])
def test_local_correlation_is_its_formula(patch: int) -> None:
    fixed, moved = torch.randn(2, 1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    got = parts.local_correlation(fixed, moved, reach=1, patch=patch)

    def at(x: Tensor, i: int, j: int) -> Tensor:
        inside = 0 <= i < x.shape[2] and 0 <= j < x.shape[3]
        return x[0, :, i, j] if inside else torch.zeros(3)

    for channel, (di, dj) in enumerate((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
        for i, j in ((0, 0), (2, 1), (4, 3)):
            around = [(i + a, j + b) for a in range(-patch, patch + 1) for b in range(-patch, patch + 1)]
            inside = [(p, q) for p, q in around if 0 <= p < 5 and 0 <= q < 4]
            total = sum((at(fixed, p, q) * at(moved, p + di, q + dj)).mean() for p, q in inside)
            torch.testing.assert_close(got[0, channel, i, j], torch.as_tensor(total) / (2 * patch + 1) ** 2)


def test_correlation_points_from_fixed_to_moved() -> None:
    fixed = torch.zeros(1, 1, 7, 7, 7)
    fixed[..., 3, 3, 3] = 1
    moved = torch.roll(fixed, (1, -1), (2, 4))
    likeness = parts.local_correlation(fixed, moved, reach=1)[0, :, 3, 3, 3]
    assert likeness.argmax() == 2 * 9 + 1 * 3 + 0
    torch.testing.assert_close(warp(moved, torch.tensor([1.0, 0, -1]).view(1, 3, 1, 1, 1).expand(1, 3, 7, 7, 7)), fixed)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_pair_alone_goes_through_the_same_convolution(stride: int, batch: int) -> None:
    layer = parts.convolution(3, 4, 6, stride=stride)
    x = torch.randn(batch, 4, 7, 6, 5, requires_grad=True)
    expected = functional.conv3d(x, *layer.parameters(), stride=stride, padding=1)
    got = layer(x)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]) for y in (got, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


def test_a_map_between_cells_is_the_map_between_voxels() -> None:
    matrix = torch.eye(3).repeat(1, 1, 1)
    matrix[0, :2] = torch.tensor([[1.1, 0.2, -3.0], [-0.1, 0.9, 2.0]])
    voxels = apply_matrix(matrix, voxel_coordinates((12, 8), matrix))
    cells = apply_matrix(affine.on_cells(matrix, 4), voxel_coordinates((3, 2), matrix))
    torch.testing.assert_close(cells, (cell_means(voxels, (4, 4)) - 1.5) / 4)


def test_a_map_about_a_centre_keeps_it() -> None:
    turn = affine.homogeneous(torch.tensor([[[0.0, -1], [1, 0]]]), torch.zeros(1, 2))
    about = affine.about(turn, torch.tensor([[5.0, 3.0]]))
    moved = apply_matrix(about, torch.tensor([[[5.0, 6.0], [3.0, 3.0]]]))
    torch.testing.assert_close(moved, torch.tensor([[[5.0, 5.0], [3.0, 4.0]]]))


def smooth_field(head: Head, shape: tuple[int, ...], largest: float) -> Tensor:
    """Velocities that turn slowly from one smooth field to another."""
    noise = torch.randn(2, len(shape), *shape, generator=torch.Generator().manual_seed(1))
    ends = gaussian(noise, [3.0] * len(shape))
    angle = torch.linspace(0, 1.5, head.fields).view(-1, *[1] * (len(shape) + 1))
    field = angle.cos() * ends[0] + angle.sin() * ends[1]
    return (field * largest / field.abs().max())[None]


@pytest.mark.parametrize("name", ["stationary", "time-varying"])
def test_the_flow_of_a_velocity_and_its_inverse_are_each_others(name: str) -> None:
    head = make_head(name, 2, 1)
    motion = head.motion(smooth_field(head, (40, 36), 4.0), True)
    assert motion.inverse_vox is not None
    inner = (..., slice(8, -8), slice(8, -8))
    for outer, inside in (
        (motion.displacement_vox, motion.inverse_vox),
        (motion.inverse_vox, motion.displacement_vox),
    ):
        assert compose(outer, inside)[inner].abs().max() < 0.05
    assert motion.displacement_vox[inner].abs().max() > 0.5


def test_corrections_make_the_inverse_of_time_varying_velocities_closer() -> None:
    rest = []
    for corrections in (0, 1):
        head = make_head("time-varying", 2, 1, {"corrections": corrections})
        motion = head.motion(smooth_field(head, (40, 36), 12.0), True)
        assert motion.inverse_vox is not None
        rest.append(float(compose(motion.displacement_vox, motion.inverse_vox)[..., 8:-8, 8:-8].square().mean()))
    assert rest[0] > 4 * rest[1]


def test_a_velocity_that_does_not_change_is_a_stationary_one() -> None:
    head, steady = make_head("time-varying", 2, 1, {"steps": 64}), make_head("stationary", 2, 1)
    field = smooth_field(steady, (40, 36), 4.0)
    changing = head.motion(field.expand(-1, 64, -1, -1, -1), False).displacement_vox
    expected = steady.motion(field, False).displacement_vox
    assert (changing - expected)[..., 6:-6, 6:-6].abs().max() < 0.03


def test_motions_follow_each_other_and_back() -> None:
    """Fixed to middle doubles distances from the origin, middle to moving adds two."""
    x = voxel_coordinates((30, 30), torch.zeros(()))
    double = Motion(x, None, -x / 2)
    shift = Motion(torch.full_like(x, 2.0), None, torch.full_like(x, -2.0))
    both = double.after(shift)
    assert both.inverse_vox is not None
    at = (0, 0, 4, 0)
    assert both.displacement_vox[at] == 2 * 4 + 2 - 4
    assert both.inverse_vox[0, 0, 10, 0] == (10 - 2) / 2 - 10
    assert Motion(x).after(shift).inverse_vox is None
    assert shift.after(None) is shift


def test_a_motion_on_a_finer_grid_moves_as_far() -> None:
    x = voxel_coordinates((6, 6), torch.zeros(()))
    fine = Motion(0.1 * x, None, -0.1 * x).onto((11, 12))
    assert fine.inverse_vox is not None
    expected = 0.1 * voxel_coordinates((11, 12), x) - 0.05  # cell i is voxels 2 i and 2 i + 1: its centre 2 i + 0.5
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(fine.displacement_vox[inner], expected[inner])
    torch.testing.assert_close(fine.inverse_vox[inner], -expected[inner])


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_keeps_its_digits_under_autocast(name: str) -> None:
    head = make_head(name, 2, 4)
    features = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        rough = head(features.bfloat16(), inverse=True)
    exact = head(features, inverse=True)
    assert torch.equal(rough.displacement_vox, exact.displacement_vox)


def test_heads_refuse_settings_without_meaning() -> None:
    with pytest.raises(ValueError, match="squarings must be at least 1, got 0"):
        make_head("stationary", 2, 1, {"squarings": 0})
    with pytest.raises(ValueError, match="steps must be at least 1"):
        make_head("time-varying", 2, 1, {"steps": 0})
    assert sorted(HEADS) == ["displacement", "stationary", "time-varying"]


def test_windows_and_back() -> None:
    x = torch.arange(2 * 4 * 6 * 2 * 3).view(2, 4, 6, 2, 3)
    parts_ = windows(x, (2, 3, 2))
    assert parts_.shape == (2, 4, 12, 3)
    assert torch.equal(parts_[1, 3].view(2, 3, 2, 3), x[1, 2:, 3:])
    assert torch.equal(unwindows(parts_, (2, 3, 2), (4, 6, 2)), x)


def test_cells_in_different_windows_do_not_see_each_other() -> None:
    attention = WindowAttention(2, 4, 2, 4, shifted=True)
    x = torch.randn(1, 9, 10, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention(x)[0, 0, 0].sum(), x)
    seen = gradient[0].abs().sum(-1) > 0
    expected = torch.zeros(9, 10, dtype=torch.bool)
    expected[:2, :2] = True  # shifted by two: the first window is the corner, and the wrap-around is not seen
    assert torch.equal(seen, expected)


def test_padding_of_a_map_is_not_seen() -> None:
    attention = WindowAttention(2, 4, 2, 4, shifted=False)
    x = torch.randn(1, 4, 6, 4)
    torch.testing.assert_close(attention(x)[:, :, 4:], attention(x[:, :, 4:]))


@pytest.mark.parametrize("shifted", [False, True])
def test_a_swin_block_is_that_of_monai(shifted: bool) -> None:
    """Weights copied, on a map that windows divide (elsewhere MONAI's blocks attend to padding)."""
    from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask

    ours = SwinBlock(3, 8, 2, 4, shifted)
    shift = (2, 2, 2) if shifted else (0, 0, 0)
    theirs = SwinTransformerBlock(8, 2, (4, 4, 4), shift)
    table = ours.attention.bias.detach().flatten(1).T
    copied = {
        "norm1": ours.norm,
        "attn.qkv": ours.attention.qkv,
        "attn.proj": ours.attention.out,
        "norm2": ours.mlp[0],
        "mlp.linear1": ours.mlp[1],
        "mlp.linear2": ours.mlp[3],
    }
    weights = {f"{name}.{key}": value for name, module in copied.items() for key, value in module.state_dict().items()}
    weights["attn.relative_position_bias_table"] = table
    weights["attn.relative_position_index"] = theirs.attn.relative_position_index
    theirs.load_state_dict(weights)
    x = torch.randn(2, 8, 4, 8, 8)
    sides = (4, 4, 4)
    # An axis of one window is not shifted: its blocks shrink window and shift alike.
    inner = tuple(s if side > w else 0 for s, side, w in zip(shift, x.shape[1:-1], sides, strict=True))
    mask = compute_mask([8, 4, 8], sides, inner, x.device)
    torch.testing.assert_close(ours(x), theirs(x, mask), atol=1e-5, rtol=1e-5)


def test_a_map_smaller_than_a_window_keeps_what_positions_mean() -> None:
    attention = WindowAttention(2, 4, 1, 4, shifted=False)
    whole = attention._relative_bias((4, 4)).view(4, 4, 4, 4)
    small = attention._relative_bias((2, 3)).view(2, 3, 2, 3)
    assert torch.equal(small, whole[:2, :3, :2, :3])
