"""Parameters of affine transforms: what each does, and there and back between parameters and matrix."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from covoxel.spatial.affine import AffineParameters, decompose, rotation_matrix

CENTRE = np.array([12.0, -7.0, 30.0])


def numbers(bound: float, count: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(-bound, bound), min_size=count, max_size=count)


@given(st.data(), st.sampled_from([2, 3]))
def test_a_matrix_is_taken_apart_into_what_it_was_made_of(data: st.DataObject, n: int) -> None:
    pairs = n * (n - 1) // 2
    # Below half a turn, where an axis times an angle is unique (three components of at most 1.8 are below pi).
    bounds = ((50.0, n), (1.8, pairs), (0.7, n), (0.5, pairs))
    parts = [torch.tensor([data.draw(numbers(*b))], dtype=torch.float64) for b in bounds]
    made = AffineParameters(*parts)
    found = decompose(made.matrix(CENTRE[:n])[0].numpy(), CENTRE[:n])
    for name in ("translation_mm", "rotation_rad", "log_scale", "shear"):
        torch.testing.assert_close(getattr(found, name), getattr(made, name), atol=1e-7, rtol=0, msg=name)


@pytest.mark.parametrize("n", [2, 3])
def test_parts_give_back_any_matrix_that_does_not_mirror(n: int) -> None:
    matrix = np.eye(n + 1)
    matrix[:n] += 0.4 * np.random.default_rng(0).standard_normal((n, n + 1))
    assert np.linalg.det(matrix) > 0
    np.testing.assert_allclose(decompose(matrix, CENTRE[:n]).matrix(CENTRE[:n])[0].numpy(), matrix, atol=1e-10)


@pytest.mark.parametrize("n", [2, 3])
def test_no_parameters_are_the_identity(n: int) -> None:
    assert torch.equal(AffineParameters.identity(2, n).matrix(CENTRE[:n]), torch.eye(n + 1).expand(2, -1, -1))


@pytest.mark.parametrize("diagonal", [(-1.0, 1.0, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0), (-1.0, 1.0, 1.0)])
def test_a_mirror_or_a_projection_has_no_parts(diagonal: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="matrix must have a positive determinant"):
        decompose(np.diag(diagonal), CENTRE[: len(diagonal) - 1])


def test_the_centre_moves_by_the_translation_alone() -> None:
    parts = [torch.tensor([row]) for row in ([1.0, 2.0, 3.0], [0.3, -0.2, 0.9], [0.1, 0.2, -0.1], [0.2, 0.1, -0.3])]
    matrix = AffineParameters(*parts).matrix(CENTRE)[0].numpy()
    np.testing.assert_allclose(matrix @ [*CENTRE, 1], [*(CENTRE + (1, 2, 3)), 1], atol=1e-5)


def test_rotations_are_right_handed() -> None:
    quarter = math.pi / 2
    about_s = rotation_matrix(torch.tensor([[0.0, 0.0, quarter]]))[0]
    torch.testing.assert_close(about_s @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    about_r = rotation_matrix(torch.tensor([[quarter, 0.0, 0.0]]))[0]
    torch.testing.assert_close(about_r @ torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)
    plane = rotation_matrix(torch.tensor([[quarter]]))[0]
    torch.testing.assert_close(plane @ torch.tensor([1.0, 0]), torch.tensor([0.0, 1]), atol=1e-6, rtol=0)


def test_scales_are_of_the_axes_before_they_turn_and_shear_comes_first() -> None:
    zero = torch.zeros(1, 3, dtype=torch.float64)
    stretched = AffineParameters(zero, zero, torch.tensor([[math.log(2.0), 0, 0]]).double(), zero)
    torch.testing.assert_close(stretched.matrix(np.zeros(3))[0], torch.diag(torch.tensor([2.0, 1, 1, 1])).double())
    both = AffineParameters(zero, zero, stretched.log_scale, torch.tensor([[0.5, 0, 0]]).double())
    assert both.matrix(np.zeros(3))[0, 0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("n", [2, 3])
def test_the_matrix_can_be_differentiated_at_the_identity_and_away(n: int) -> None:
    pairs = n * (n - 1) // 2
    for size in (0.0, 0.3):
        parts = [
            torch.full((2, width), size, dtype=torch.float64, requires_grad=True) for width in (n, pairs, n, pairs)
        ]
        assert torch.autograd.gradcheck(lambda *p: AffineParameters(*p).matrix(CENTRE[:n]), parts)


def test_a_batch_is_a_matrix_each() -> None:
    parts = [torch.randn(4, 3) * 0.2 for _ in range(4)]
    together = AffineParameters(*parts).matrix(CENTRE)
    for row in range(4):
        alone = AffineParameters(*(part[row : row + 1] for part in parts)).matrix(CENTRE)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-3, rtol=0)
