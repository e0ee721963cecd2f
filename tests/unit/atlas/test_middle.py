"""The mid-space: a mean of affine maps that depends on no frame, and a grid over the median field of view."""

import numpy as np
import pytest
from scipy.linalg import expm, logm

from covoxel.atlas import barycentre, mid_space
from covoxel.spatial import Grid


def affine(generator: np.random.Generator, n: int = 3, size: float = 0.3) -> np.ndarray:
    """Matrix not far from the identity, with a shift of some mm."""
    log = np.zeros((n + 1, n + 1))
    log[:n, :n] = generator.normal(0, size, (n, n))
    log[:n, n] = generator.normal(0, 20, n)
    return np.asarray(expm(log))


@pytest.mark.parametrize("n", [2, 3])
def test_the_mean_of_maps_moves_with_either_space(n: int) -> None:
    generator = np.random.default_rng(0)
    matrices = [affine(generator, n, 0.15) for _ in range(5)]
    middle = barycentre(matrices)
    logs = [logm(np.linalg.inv(middle) @ matrix) for matrix in matrices]
    np.testing.assert_allclose(np.mean(logs, axis=0), 0, atol=1e-8)
    left, right = affine(generator, n), affine(generator, n)
    np.testing.assert_allclose(barycentre([left @ m @ right for m in matrices]), left @ middle @ right, atol=1e-6)


def test_maps_that_have_no_mean_are_refused() -> None:
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="mirror"):
        barycentre([np.eye(4), np.diag([-1.0, 1.0, 1.0, 1.0])])
    with pytest.raises(ValueError, match="half a turn"):
        barycentre([np.eye(4), half_turn])
    with pytest.raises(ValueError, match="one or more"):
        barycentre([])


def test_the_mid_space_favours_no_case_whatever_reference_was_taken() -> None:
    generator = np.random.default_rng(1)
    matrices = {name: affine(generator, size=0.1) for name in "abcd"}
    grids = {name: Grid.from_spacing((20, 24, 18 + i), (1.0, 1.0, 1.5)) for i, name in enumerate("abcd")}
    first = mid_space(matrices, grids)
    np.testing.assert_allclose(barycentre([*first.moving_from_template.values()]), np.eye(4), atol=1e-8)
    moved = {name: matrix @ affine(np.random.default_rng(2)) for name, matrix in matrices.items()}
    second = mid_space(moved, grids)
    for name in matrices:
        np.testing.assert_allclose(second.moving_from_template[name], first.moving_from_template[name], atol=1e-6)
    assert second.grid.isclose(first.grid)
    np.testing.assert_allclose(first.grid.spacing_mm, (1.0, 1.0, 1.5))
