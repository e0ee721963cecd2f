"""Fields against what is known exactly: shifts, matrix exponentials, determinants, waves and ramps."""

import math

import pytest
import torch
from torch import Tensor

from covoxel.registration.pyramid import cell_grid
from covoxel.spatial import Grid, sample, voxel_coordinates, warp
from covoxel.spatial.field import compose, invert, jacobian, jacobian_determinant
from covoxel.spatial.smoothing import bending_flow, cell_means, gaussian, refine
from covoxel.spatial.velocity import exp, squarings_for
from covoxel.spatial.warp import Interpolation

SHAPES = [(21, 18), (21, 18, 14)]


@pytest.fixture(params=SHAPES, ids=["2-D", "3-D"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    chosen: tuple[int, ...] = request.param
    return chosen


def centred(shape: tuple[int, ...]) -> Tensor:
    """Voxel coordinates from the middle, `(1, n, *shape)` float64."""
    coordinates = voxel_coordinates(shape, torch.zeros((), dtype=torch.float64))
    return coordinates - (torch.tensor(shape).view(1, -1, *[1] * len(shape)) - 1) / 2


def linear_field(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.einsum("cd,bd...->bc...", matrix.double(), centred(shape))


def bump(shape: tuple[int, ...], height_vox: float) -> Tensor:
    """Smooth field that vanishes at the border, `(1, n, *shape)` float64, at most about `height_vox`."""
    n = len(shape)
    sides = torch.tensor(shape).view(1, -1, *[1] * n)
    envelope = torch.cos(centred(shape) * math.pi / (sides - 1)).prod(1, keepdim=True) ** 2
    return envelope * torch.tensor([1.0, -0.7, 0.4][:n]).view(1, -1, *[1] * n).double() * height_vox


def matrix_of(n: int) -> Tensor:
    return torch.tensor([[0.10, -0.05, 0.02], [0.08, -0.06, 0.04], [-0.03, 0.07, 0.05]], dtype=torch.float64)[:n, :n]


def inner(x: Tensor, margin: int) -> Tensor:
    """`x` without `margin` voxels on every side of the spatial axes, which are those after the first two."""
    return x[(slice(None), slice(None), *[slice(margin, -margin)] * (x.ndim - 2))]


@pytest.mark.parametrize("shift", [(2, -3, 1), (-1, 4, -2)])
def test_a_whole_voxel_displacement_is_a_shift_bit_for_bit(shift: tuple[int, ...]) -> None:
    # Linear weights are exact 0 and 1 where the index survives the way to [-1, 1] and back: sides of 2^k + 1.
    cases: list[tuple[tuple[int, ...], Interpolation]]
    cases = [((33, 17, 9), "linear"), ((33, 17), "linear"), ((21, 18, 14), "nearest"), ((21, 18), "nearest")]
    for shape, interpolation in cases:
        n = len(shape)
        image = torch.rand(1, 1, *shape)
        field = torch.tensor(shift[:n], dtype=torch.float32).view(1, -1, *[1] * n).expand(1, -1, *shape)
        moved = warp(image, field, interpolation=interpolation)
        expected = torch.roll(image, [-s for s in shift[:n]], list(range(2, 2 + n)))
        assert torch.equal(inner(moved, 4), inner(expected, 4))


def test_a_whole_voxel_displacement_is_a_shift_within_rounding_for_any_side(shape: tuple[int, ...]) -> None:
    image = torch.rand(1, 1, *shape)
    field = torch.zeros(1, len(shape), *shape)
    field[:, 0], field[:, 1] = 3, -2
    moved = warp(image, field)
    torch.testing.assert_close(moved[:, :, :-3, 2:], image[:, :, 3:, :-2], atol=1e-5, rtol=0)


def test_outside_the_image_is_its_border_or_zero(shape: tuple[int, ...]) -> None:
    image = torch.rand(1, 1, *shape) + 1
    far = torch.zeros(1, len(shape), *shape)
    far[:, 0] = 100
    assert torch.equal(warp(image, far, padding="zeros"), torch.zeros_like(image))
    torch.testing.assert_close(warp(image, far), image[:, :, -1:].expand_as(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [64, 67])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_sampling_in_slabs_is_plain_sampling_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, side: int, threads: int
) -> None:
    image = torch.rand(1, 2, 15, 12, 9)
    coordinates = torch.rand(1, 3, side, 41, 40) * 16 - 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    plain = sample(image, coordinates)
    zeros = sample(image, coordinates, padding="zeros")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(sample(image, coordinates), plain)
    assert torch.equal(sample(image, coordinates, padding="zeros"), zeros)
    flat = torch.rand(1, 2, side * 40, 60) * 14 - 2
    in_slabs = sample(image[..., 0], flat)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert torch.equal(in_slabs, sample(image[..., 0], flat))


def test_exp_of_a_linear_velocity_nears_the_matrix_exponential_with_every_squaring(shape: tuple[int, ...]) -> None:
    n = len(shape)
    # A spiral inwards, so that no path leaves the image and linear interpolation is exact everywhere.
    matrix = torch.tensor([[-0.4, -0.3, 0.0], [0.3, -0.4, 0.1], [0.0, -0.1, -0.5]], dtype=torch.float64)[:n, :n]
    exact = linear_field(torch.linalg.matrix_exp(matrix) - torch.eye(n), shape)
    errors = [float((exp(linear_field(matrix, shape), squarings=k) - exact).abs().max()) for k in range(2, 9)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert fine < 0.6 * coarse, errors
    assert errors[-1] < 0.01


def test_exp_of_minus_v_undoes_exp_of_v_the_better_the_more_squarings(shape: tuple[int, ...]) -> None:
    def error(squarings: int | None, finer: int = 1) -> float:
        velocity = bump(tuple(finer * side for side in shape), 2.0)
        there, back = exp(velocity, squarings=squarings), exp(-velocity, squarings=squarings)
        return float(compose(there, back).abs().max())

    assert error(1) > 1.5 * error(2) > 1.5**2 * error(3)
    # What is left is linear interpolation of the field: a bump twice as wide has less than half of it.
    assert error(None) < 0.15
    assert error(None, finer=2) < 0.06
    assert squarings_for(2.0) == 3
    assert squarings_for(0.0) == 1


def test_exp_of_a_velocity_that_folds_as_a_displacement_does_not_fold(shape: tuple[int, ...]) -> None:
    velocity = bump(shape, 9.0)
    assert jacobian_determinant(velocity).min() < 0
    assert jacobian_determinant(exp(velocity)).min() > 0


def test_the_jacobian_of_an_affine_field_is_its_matrix_up_to_the_border(shape: tuple[int, ...]) -> None:
    n = len(shape)
    matrix = matrix_of(n)
    found = jacobian(linear_field(matrix, shape))
    expected = torch.eye(n, dtype=torch.float64) + matrix
    torch.testing.assert_close(found, expected.view(1, n, n, *[1] * n).expand(1, n, n, *shape))
    determinant = jacobian_determinant(linear_field(matrix, shape))
    torch.testing.assert_close(determinant, torch.linalg.det(expected).expand(1, *shape))


def test_a_mirrored_field_folds_everywhere(shape: tuple[int, ...]) -> None:
    mirror = torch.zeros(len(shape), len(shape))
    mirror[0, 0] = -2
    assert jacobian_determinant(linear_field(mirror, shape)).max() < 0


def test_the_jacobian_at_the_border_is_the_one_sided_difference(shape: tuple[int, ...]) -> None:
    field = torch.rand(2, len(shape), *shape)
    found = jacobian(field)
    torch.testing.assert_close(found[:, 0, 1, :, 0], field[:, 0, :, 1] - field[:, 0, :, 0])
    torch.testing.assert_close(found[:, 1, 1, :, -1], 1 + field[:, 1, :, -1] - field[:, 1, :, -2])
    torch.testing.assert_close(found[:, 0, 1, :, 1], (field[:, 0, :, 2] - field[:, 0, :, 0]) / 2)


def test_the_inverse_undoes_the_field_from_both_sides(shape: tuple[int, ...]) -> None:
    field = bump(shape, 1.5)
    inverse = invert(field)
    # The fixed point solves u ∘ inverse = id to rounding; the other side is as good as linear interpolation.
    assert compose(field, inverse).abs().max() < 1e-6
    assert compose(inverse, field).abs().max() < 0.1


def test_the_inverse_of_an_affine_field_is_that_of_its_matrix(shape: tuple[int, ...]) -> None:
    n = len(shape)
    found = invert(linear_field(matrix_of(n), shape))
    exact = linear_field(torch.linalg.inv(torch.eye(n) + matrix_of(n)) - torch.eye(n), shape)
    torch.testing.assert_close(inner(found, 4), inner(exact, 4), atol=1e-6, rtol=0)


def test_composition_applies_the_inner_field_first(shape: tuple[int, ...]) -> None:
    n = len(shape)
    shift = torch.zeros(1, n, *shape, dtype=torch.float64)
    shift[:, 0] = 1.5
    stretch = linear_field(0.2 * torch.eye(n), shape)
    first_shifted = compose(stretch, shift)
    first_stretched = compose(shift, stretch)
    torch.testing.assert_close(inner(first_stretched, 3), inner(stretch + shift, 3))
    torch.testing.assert_close(inner(first_shifted, 3), inner(stretch + 1.2 * shift, 3))


def test_warping_twice_is_warping_by_the_composition(shape: tuple[int, ...]) -> None:
    image = (centred(shape) * torch.tensor([1.0, 2.0, -1.0][: len(shape)]).view(1, -1, *[1] * len(shape))).sum(1)[None]
    outer, within = bump(shape, 1.0), bump(shape, -1.5).flip(1)
    twice = warp(warp(image, outer), within)
    torch.testing.assert_close(warp(image, compose(outer, within)), twice, atol=1e-9, rtol=0)


@pytest.mark.parametrize("smooth", [gaussian, bending_flow])
def test_smoothing_keeps_constants(smooth, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    constant = torch.full((2, 1, *shape), 3.7)
    sigma = (1.3, 0.0, 2.2)[: len(shape)]
    torch.testing.assert_close(smooth(constant, sigma), constant, atol=1e-5, rtol=0)


@pytest.mark.parametrize("smooth", [gaussian, bending_flow])
def test_smoothing_of_no_strength_changes_nothing(smooth, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    image = torch.rand(1, 2, *shape)
    torch.testing.assert_close(smooth(image, [0.0] * len(shape)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("waves", [2, 4, 7])
def test_smoothing_damps_a_cosine_by_the_documented_factor(axis: int, waves: int) -> None:
    shape, sigma = (40, 36, 32), 1.5
    side = shape[axis]
    frequency = math.pi * waves / side
    wave = torch.cos(frequency * (torch.arange(side, dtype=torch.float64) + 0.5))
    image = wave.view(1, 1, *[-1 if d == axis else 1 for d in range(3)]).expand(1, 1, *shape)
    diffusion = (frequency * sigma) ** 2 / 2
    within = (slice(None),) * (2 + axis) + (slice(6, -6),)
    expected = math.exp(-diffusion) * image
    # Cut at three standard deviations, the Gaussian lacks 0.3 % of its mass.
    torch.testing.assert_close(gaussian(image, [sigma] * 3)[within], expected[within], atol=0.02, rtol=0)
    bent = math.exp(-(((1 - math.cos(frequency)) * sigma**2) ** 2)) * image
    torch.testing.assert_close(bending_flow(image, [sigma] * 3), bent, atol=1e-12, rtol=0)
    assert (1 - math.cos(frequency)) * sigma**2 == pytest.approx(diffusion, rel=0.05)


def test_gaussian_smoothing_has_the_standard_deviation_asked_for() -> None:
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    smooth = gaussian(point, (2.0, 3.0))[0, 0]
    distance = torch.arange(41) - 20
    assert smooth.sum() == pytest.approx(1)
    assert math.sqrt((smooth.sum(1) * distance**2).sum()) == pytest.approx(2, rel=0.02)
    assert math.sqrt((smooth.sum(0) * distance**2).sum()) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 1, 2)])
def test_cell_means_of_a_ramp_are_the_ramp_at_the_centres_of_the_cells(factors: tuple[int, ...]) -> None:
    for sides in ((7, 6, 5), (7, 6)):
        n = len(sides)
        full = tuple(s * f for s, f in zip(sides, factors, strict=False))
        grid = Grid.from_spacing(full, (1.0, 1.5, 2.5)[:n])
        cells = cell_grid(grid, factors[:n])
        assert cells.shape == sides
        found = cell_means(ramp(grid), factors[:n])
        torch.testing.assert_close(found, ramp(cells))
        back = refine(found, factors[:n], full)
        margin = max(factors)
        torch.testing.assert_close(inner(back, margin), inner(ramp(grid), margin))


def test_refining_between_cells_of_no_whole_ratio_keeps_a_ramp() -> None:
    grid = Grid.from_spacing((30, 30, 30))
    five, three = cell_grid(grid, (5, 5, 5)), cell_grid(grid, (3, 3, 3))
    found = refine(ramp(five), [5 / 3] * 3, three.shape)
    torch.testing.assert_close(inner(found, 2), inner(ramp(three), 2))


def test_cells_that_the_image_does_not_fill_count_the_voxels_there_are(shape: tuple[int, ...]) -> None:
    image = torch.full((1, 1, *shape), 2.5)
    found = cell_means(image, [4] * len(shape))
    assert found.shape[2:] == tuple(math.ceil(side / 4) for side in shape)
    torch.testing.assert_close(found, torch.full_like(found, 2.5))
    torch.testing.assert_close(refine(found, [4] * len(shape), shape), image)


def ramp(grid: Grid) -> Tensor:
    """Image linear in RAS+ mm, `(1, 1, *shape)` float64."""
    index = voxel_coordinates(grid.shape, torch.zeros((), dtype=torch.float64))[0].movedim(0, -1).numpy()
    return torch.tensor(grid.to_ras(index) @ [1.0, -2.0, 0.5][: grid.ndim])[None, None]


def test_one_slice_does_not_fill_the_volume() -> None:
    """Off the plane of an image of one slice there is nothing: half a voxel away half the value, a voxel away none."""
    image = torch.full((1, 1, 4, 5, 1), 2.0)
    coordinates = torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 0.5], [2.0, 2.0, 1.0], [2.0, 2.0, -5.0], [-1.5, 2.0, 0.0]])
    at = coordinates.T.reshape(1, 3, 5, 1, 1)
    assert sample(image, at, padding="zeros").flatten().tolist() == [2.0, 1.0, 0.0, 0.0, 0.0]
    assert sample(image, at).flatten().tolist() == [2.0] * 5
