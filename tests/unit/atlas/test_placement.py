"""Placements: there and back, one after the other, on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.atlas import FolderOfPlacements, Placement, read_placement, through, write_placement
from covoxel.metrics import digital_folding, folding
from covoxel.registration.pyramid import cell_grid
from covoxel.spatial import Grid
from covoxel.spatial.smoothing import gaussian
from covoxel.spatial.velocity import exp, log

MATRIX = {
    3: np.array([[1.1, 0.1, 0, 3], [-0.1, 0.9, 0.05, -4], [0, 0, 1.05, 2], [0, 0, 0, 1.0]]),
    2: np.array([[1.1, 0.1, 3], [-0.1, 0.9, -4], [0, 0, 1.0]]),
}


def placement(n: int, seed: int = 0, size: float = 1.0) -> Placement:
    """An affine map after a smooth flow that vanishes at the border."""
    grid = Grid.from_spacing((32, 36, 28)[:n], (1.0, 1.2, 1.5)[:n])
    nodes = cell_grid(grid, (2,) * n).shape
    noise = torch.randn(1, n, *nodes, generator=torch.Generator().manual_seed(seed))
    smooth = gaussian(noise, (3.5,) * n)
    for axis, side in enumerate(nodes, start=2):
        window = torch.hann_window(side, periodic=False).view([-1 if d == axis else 1 for d in range(n + 2)])
        smooth = smooth * window
    return Placement(grid, MATRIX[n], size * smooth[0] / smooth.abs().max(), (2,) * n, 0.5)


@pytest.mark.parametrize("n", [2, 3])
def test_there_and_back_is_where_one_was(n: int) -> None:
    placed = placement(n)
    onto = Grid.from_spacing((50,) * n, 1.0)
    points = placed.grid.to_ras(np.random.default_rng(0).uniform(6, 22, (200, n)))
    there = placed.transform().map(points)
    assert np.abs(there - points @ MATRIX[n][:n, :n].T - MATRIX[n][:n, n]).max() > 0.5, "it bends"
    back = placed.inverse(onto).map(there)
    assert np.abs(back - points).max() < 0.3
    assert np.abs(back - points).mean() < 0.03


def test_two_maps_in_turn_are_one() -> None:
    first, second = placement(3, seed=1), placement(3, seed=2)
    case = Grid.from_spacing((30, 30, 30), 1.1)
    inner, outer = first.inverse(case), second.transform()
    points = case.to_ras(np.stack(np.meshgrid(*[np.arange(8, 22)] * 3, indexing="ij"), -1).reshape(-1, 3))
    assert np.abs(through(outer, inner).map(points) - outer.map(inner.map(points))).max() < 1e-3


def test_no_map_tears_where_the_template_ends() -> None:
    bent = placement(3)
    assert bent.velocity_vox is not None
    first, second = (
        replace(bent, velocity_vox=bent.velocity_vox + 1.5),
        replace(bent, velocity_vox=1.5 - bent.velocity_vox),
    )
    wide = Grid.from_spacing((48, 48, 48), 1.1).cropped([-9, -9, -9], (48, 48, 48))
    inner = first.inverse(wide)
    for found in (inner, through(second.transform(), inner)):
        assert folding(found).percent == digital_folding(found).percent == 0


def test_a_placement_survives_the_disk_and_damage_is_told(tmp_path: Path) -> None:
    placed = placement(2)
    write_placement(tmp_path / "a.npz", placed)
    found = read_placement(tmp_path / "a.npz")
    assert found.velocity_vox is not None
    assert placed.velocity_vox is not None
    assert torch.equal(found.velocity_vox, placed.velocity_vox)
    assert (found.cells, found.similarity, found.grid.isclose(placed.grid)) == (placed.cells, 0.5, True)
    first = (tmp_path / "a.npz").read_bytes()
    write_placement(tmp_path / "a.npz", found)
    assert (tmp_path / "a.npz").read_bytes() == first
    (tmp_path / "a.npz").write_bytes(first[:200])
    with pytest.raises(ValueError, match="a.npz must be"):
        read_placement(tmp_path / "a.npz")
    folder = FolderOfPlacements(tmp_path / "folder")
    folder["b"] = Placement(placed.grid, np.eye(3))
    assert list(folder) == ["b"]
    assert folder["b"].velocity_vox is None
    with pytest.raises(KeyError):
        folder["c"]


def test_the_logarithm_of_an_exponential_is_the_velocity() -> None:
    velocity = placement(2, size=1.5).velocity_vox
    assert velocity is not None
    displacement = exp(velocity[None])
    off, plainly_off = (float((exp(v) - displacement).abs().mean()) for v in (log(displacement), displacement))
    assert plainly_off > 0.01, "the displacement itself is not its logarithm"
    assert off < 0.6 * plainly_off
