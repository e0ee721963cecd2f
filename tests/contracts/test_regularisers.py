"""What every regulariser of fields and of affine maps must be, and the values that their formulas give."""

import math

import pytest
import torch
from torch import Tensor

from covoxel.losses.base import AFFINE_REGULARISERS, REGULARISERS, AffineRegulariser, Regulariser
from covoxel.losses.regularisation.levels import per_level
from covoxel.spatial import voxel_coordinates
from covoxel.spatial.smoothing import gaussian

SHAPES = [(9, 8), (7, 6, 8)]


@pytest.fixture(params=sorted(REGULARISERS))
def regulariser(request: pytest.FixtureRequest) -> Regulariser:
    return REGULARISERS[request.param]


@pytest.fixture(params=sorted(AFFINE_REGULARISERS))
def affine(request: pytest.FixtureRequest) -> AffineRegulariser:
    return AFFINE_REGULARISERS[request.param]


@pytest.fixture(params=SHAPES, ids=["2-D", "3-D"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    chosen: tuple[int, ...] = request.param
    return chosen


def rough(shape: tuple[int, ...], batch: int = 1, size: float = 2.0) -> Tensor:
    """Displacement that folds here and there, `(batch, n, *shape)`, float64."""
    return size * torch.randn(batch, len(shape), *shape, generator=torch.Generator().manual_seed(1)).double()


def linear(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Displacement `matrix @ x`, `(1, n, *shape)`."""
    return torch.einsum("cd,bd...->bc...", matrix.double(), voxel_coordinates(shape, torch.zeros(1).double()))


def matrices(n: int, batch: int = 3) -> Tensor:
    """Affine maps off the identity, `(batch, n + 1, n + 1)`, float64."""
    noise = 0.3 * torch.randn(batch, n, n + 1, generator=torch.Generator().manual_seed(2)).double()
    whole = torch.eye(n + 1).double().repeat(batch, 1, 1)
    whole[:, :n] += noise
    return whole


def test_the_identity_costs_nothing_and_nothing_costs_less(regulariser: Regulariser, shape: tuple[int, ...]) -> None:
    still = torch.zeros(2, len(shape), *shape)
    assert torch.equal(regulariser(still), torch.zeros(2))
    value = regulariser(rough(shape, 3))
    assert value.shape == (3,)
    assert (value > 0).all()


def test_a_larger_field_costs_more(regulariser: Regulariser, shape: tuple[int, ...]) -> None:
    field = rough(shape)
    values = [float(regulariser(size * field)) for size in (0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] < values[2]


def test_the_gradient_is_that_of_the_value(regulariser: Regulariser) -> None:
    for shape in ((5, 4), (4, 3, 4)):
        mask = torch.rand(2, 1, *shape).double()
        field = rough(shape, 2, size=0.8).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda f, m=mask: regulariser(f, mask=m), field, eps=1e-7, atol=1e-4, rtol=1e-3, fast_mode=True
        )


def test_a_sample_costs_the_same_alone_and_in_a_batch(regulariser: Regulariser, shape: tuple[int, ...]) -> None:
    field = rough(shape, 3)
    mask = (torch.rand(3, 1, *shape) > 0.1).double()
    alone = [regulariser(field[i, None], mask=mask[i, None]) for i in range(3)]
    torch.testing.assert_close(regulariser(field, mask=mask), torch.cat(alone))


def test_what_lies_outside_the_mask_does_not_count(regulariser: Regulariser, shape: tuple[int, ...]) -> None:
    field = rough(shape)
    mask = torch.zeros(1, 1, *shape).double()
    mask[:, :, 2:-2] = 1
    changed = torch.where(mask > 0, field, 100 * field)
    assert float(regulariser(field, mask=mask)) > 0
    torch.testing.assert_close(regulariser(changed, mask=mask), regulariser(field, mask=mask))


def test_an_empty_mask_costs_nothing(regulariser: Regulariser, shape: tuple[int, ...]) -> None:
    field = rough(shape).requires_grad_()
    value = regulariser(field, mask=torch.zeros(1, 1, *shape))
    (gradient,) = torch.autograd.grad(value.sum(), field)
    assert float(value.detach()) == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_mask_of_another_grid_and_a_spacing_that_is_none_are_refused(regulariser: Regulariser) -> None:
    with pytest.raises(ValueError, match="mask must be"):
        regulariser(rough((6, 5)), mask=torch.ones(1, 1, 5, 5))


def test_turning_the_field_changes_nothing(regulariser: Regulariser) -> None:
    """Axes 0 and 1 change places, in space, in the vectors and in the spacing."""
    field = gaussian(3 * rough((8, 7, 6)), [0.7] * 3)
    turned = field.transpose(2, 3)[:, [1, 0, 2]]
    torch.testing.assert_close(
        regulariser(turned, spacing_mm=(2.0, 1.0, 3.0)), regulariser(field, spacing_mm=(1.0, 2.0, 3.0))
    )


def test_one_slice_costs_what_the_plane_costs(regulariser: Regulariser) -> None:
    plane = rough((7, 6))
    slice_ = torch.cat([plane, torch.zeros(1, 1, 7, 6).double()], 1)[..., None]
    torch.testing.assert_close(regulariser(slice_), regulariser(plane))


@pytest.mark.parametrize("kind", [REGULARISERS, AFFINE_REGULARISERS], ids=["fields", "affine"])
def test_they_are_documented_with_formula_reference_and_unit(kind: dict[str, object]) -> None:
    assert len(kind) >= 3
    for name, loss in kind.items():
        text = loss.__doc__ or ""
        assert "math:" in text, name
        assert "References" in text, name
        assert any(unit in text for unit in ("unit", "voxel", "mm")), name


@pytest.mark.parametrize("registered", sorted(REGULARISERS))
def test_no_number_leaves_the_device(registered: str) -> None:
    """Tensors without data stand for those of another device: what reads or mixes them raises."""
    field = torch.zeros(2, 3, 6, 5, 4, device="meta")
    mask = torch.ones(2, 1, 6, 5, 4, device="meta")
    assert REGULARISERS[registered](field, mask=mask).device.type == "meta"


def test_the_values_of_the_formulas(shape: tuple[int, ...]) -> None:
    n = len(shape)
    matrix = torch.tensor([[0.1, 0.2, -0.1], [0.3, -0.2, 0.1], [0.05, 0.0, 0.3]])[:n, :n]
    field = linear(matrix, shape)
    assert float(REGULARISERS["diffusion"](field)) == pytest.approx(float((matrix**2).sum()))
    assert float(REGULARISERS["bending"](field)) == pytest.approx(0, abs=1e-20)
    determinant = float(torch.linalg.det(torch.eye(n) + matrix))
    assert float(REGULARISERS["volume_change"](field)) == pytest.approx(math.log(determinant) ** 2, rel=1e-5)
    assert float(REGULARISERS["negative_jacobian"](field)) == 0
    assert float(REGULARISERS["anti_folding"](field)) == 0
    mirror = linear(torch.diag(torch.tensor([-3.0, 0.0, 0.0])[:n]), shape)
    assert float(REGULARISERS["negative_jacobian"](mirror)) == pytest.approx(2)
    assert float(REGULARISERS["anti_folding"](mirror)) == pytest.approx(2 * 9)


def test_bending_is_that_of_a_quadratic(shape: tuple[int, ...]) -> None:
    """u_0 = a x² + b x y has second derivatives 2a, and b twice."""
    x = voxel_coordinates(shape, torch.zeros(1).double())
    field = torch.zeros(1, len(shape), *shape).double()
    field[:, 0] = 0.5 * x[:, 0] ** 2 + 0.3 * x[:, 0] * x[:, 1]
    assert float(REGULARISERS["bending"](field)) == pytest.approx(1 + 2 * 0.09)
    spacing = (2.0, 0.5, 1.0)[: len(shape)]
    mm = (2 * 1.0 / 4) ** 2 + 2 * (2 * 0.3 / (2 * 0.5)) ** 2
    assert float(REGULARISERS["bending"](field, spacing_mm=spacing)) == pytest.approx(mm)


def test_voxels_that_are_no_cubes_are_paid_in_millimetres(shape: tuple[int, ...]) -> None:
    """A shear of 0.1 mm a mm costs 0.01 whatever the voxels."""
    n, spacing = len(shape), (0.5, 2.0, 4.0)[: len(shape)]
    in_vox = torch.zeros(n, n)
    in_vox[0, 1] = 0.1 * spacing[1] / spacing[0]
    assert float(REGULARISERS["diffusion"](linear(in_vox, shape), spacing_mm=spacing)) == pytest.approx(0.01)
    one = torch.ones(1, n, *shape)
    assert float(REGULARISERS["magnitude"](one, spacing_mm=spacing)) == pytest.approx(sum(s * s for s in spacing))
    with pytest.raises(ValueError, match="spacing_mm must be"):
        REGULARISERS["diffusion"](one, spacing_mm=(1.0,))


def test_central_differences_miss_the_fold_that_anti_folding_sees() -> None:
    field = torch.zeros(1, 2, 10, 8)
    field[:, 0, ::2] = 1.5
    assert float(REGULARISERS["negative_jacobian"](field)[0]) < 0.2
    assert float(REGULARISERS["anti_folding"](field)) > 0.5


def test_levels_are_weighted_and_summed() -> None:
    fields = [torch.ones(2, 2, 8, 8), 2 * torch.ones(2, 2, 4, 4)]
    assert per_level(REGULARISERS["magnitude"], fields, [1.0, 0.5]).tolist() == [2 + 0.5 * 8] * 2
    with pytest.raises(ValueError, match="one a level"):
        per_level(REGULARISERS["magnitude"], fields, [1.0])


def test_affine_identity_costs_nothing_and_anything_else_something(affine: AffineRegulariser) -> None:
    for n in (2, 3):
        assert float(affine(torch.eye(n + 1)[None]).abs()) == pytest.approx(0, abs=1e-6)
        maps = matrices(n)
        assert (affine(maps) > 0).all()
        torch.testing.assert_close(affine(maps), affine(maps[:, :n]))
        torch.testing.assert_close(affine(maps)[1], affine(maps[1:2])[0])


def test_affine_gradients_are_those_of_the_value_and_finite_at_the_identity(affine: AffineRegulariser) -> None:
    for n in (2, 3):
        maps = torch.cat([matrices(n), torch.eye(n + 1).double()[None]])[:, :n].requires_grad_()
        assert torch.autograd.gradcheck(affine, maps, atol=1e-4)
        flat = torch.zeros(1, n, n + 1, requires_grad=True)
        (gradient,) = torch.autograd.grad(affine(flat).sum(), flat)
        assert gradient.isfinite().all()


def test_an_affine_map_of_another_shape_is_refused(affine: AffineRegulariser) -> None:
    for wrong in (torch.eye(4), torch.zeros(1, 2, 4), torch.zeros(1, 5, 5)):
        with pytest.raises(ValueError, match="moving_from_fixed must be"):
            affine(wrong)


def test_affine_values_are_those_of_singular_values_and_of_points() -> None:
    for n in (2, 3):
        maps = matrices(n)
        singular = torch.linalg.svdvals(maps[:, :n, :n])
        expected = (singular**2 + singular**-2).sum(1) - 2 * n
        torch.testing.assert_close(AFFINE_REGULARISERS["orthogonality"](maps), expected)
        expected = (torch.linalg.det(maps[:, :n, :n]) - 1) ** 2
        torch.testing.assert_close(AFFINE_REGULARISERS["determinant"](maps), expected)
        side = torch.linspace(-80, 80, 61).double()
        points = torch.cartesian_prod(*[side] * n)
        points = points[points.norm(dim=1) <= 80]
        moved = points @ maps[0, :n, :n].T + maps[0, :n, n]
        mean = ((moved - points) ** 2).sum(1).mean()
        assert float(AFFINE_REGULARISERS["closeness"](maps)[0]) == pytest.approx(float(mean), rel=0.02)


def test_a_rotation_is_orthogonal_and_keeps_volume_and_a_mirror_does_not() -> None:
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    both = torch.cat([torch.stack([turn, mirror]), torch.zeros(2, 3, 1)], 2)
    torch.testing.assert_close(AFFINE_REGULARISERS["orthogonality"](both), torch.zeros(2))
    torch.testing.assert_close(AFFINE_REGULARISERS["determinant"](both), torch.tensor([0.0, 4.0]))
