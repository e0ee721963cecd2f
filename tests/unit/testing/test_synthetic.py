"""Synthetic subjects: what is called the truth is the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from covoxel.spatial import Grid, Image, resample
from covoxel.spatial.field import displacement_vox_from_mm, jacobian_determinant
from covoxel.testing.synthetic import (
    Anatomy,
    LocalChange,
    Variability,
    draw_subject,
    draw_visit,
    find_point,
    render,
    smooth_field,
    true_labels,
)

BALL_RAS = (-20.0, 8.0, 5.0)
BALL_MM = 14.0
CALM = Variability(bias=0, noise=0, gamma=0)


def _distance(grid: Grid, centre: tuple[float, ...]) -> np.ndarray:
    points = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    return np.linalg.norm(points - centre, axis=-1)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    """A soft-edged ball of 45 mm with a smaller ball, label 7, in it; 3 mm voxels."""
    grid = Grid.from_spacing((40, 42, 38), 3.0)
    outer = 1 / (1 + np.exp((_distance(grid, (0, 0, 0)) - 45) / 1.5))
    inner = 1 / (1 + np.exp((_distance(grid, BALL_RAS) - BALL_MM) / 1.5))
    shown = Image(torch.from_numpy((0.6 * outer + 0.3 * inner).astype(np.float32)), grid)
    return Anatomy(shown, {7: Image(torch.from_numpy(inner.astype(np.float32)), grid)})


def test_a_smooth_field_has_variance_1_and_the_correlation_of_its_kernel() -> None:
    grid = Grid.from_spacing((64, 60, 56), 2.0)
    rng = np.random.default_rng(0)
    field = np.concatenate([smooth_field(grid, rng, channels=3, kernel_mm=8.0) for _ in range(4)])
    assert field.dtype == np.float32
    assert field.var() == pytest.approx(1, abs=0.06)
    for lag in (2, 4, 8):
        correlation = (field[:, lag:] * field[:, :-lag]).mean() / field.var()
        assert correlation == pytest.approx(np.exp(-((2.0 * lag) ** 2) / (4 * 8.0**2)), abs=0.06)


def test_subjects_differ_do_not_fold_and_lie_whole_in_their_scan(anatomy: Anatomy) -> None:
    directions = set()
    for seed in range(8):
        subject = draw_subject(anatomy, np.random.default_rng(seed), spacing_mm=4.0)
        assert subject.displacement_mm is not None
        grid = subject.grid
        determinant = jacobian_determinant(displacement_vox_from_mm(subject.displacement_mm[None], grid))
        assert float(determinant.min()) > 0.1
        assert 1 < float(subject.displacement_mm.norm(dim=0).mean()) < 12
        assert grid.spacing_mm == pytest.approx([4.0] * 3)
        directions.add(tuple(np.abs(grid.ras_from_voxel[:3, :3]).argmax(0)))
        shown = resample(anatomy.intensity, grid, subject).data
        assert all(float(shown.select(axis, side).max()) < 0.02 for axis in range(3) for side in (0, -1))
    assert len(directions) > 1


def test_the_true_label_of_a_voxel_is_the_anatomy_where_the_truth_says_it_is(anatomy: Anatomy) -> None:
    subject = draw_subject(anatomy, np.random.default_rng(3), spacing_mm=4.0)
    labels = true_labels(anatomy, subject)
    voxel = np.argwhere(np.ones(labels.grid.shape))
    there = np.linalg.norm(subject.map(labels.grid.to_ras(voxel)) - BALL_RAS, axis=1)
    is_seven = (labels.data == 7).numpy().ravel()
    assert is_seven.sum() > 100
    clear = np.abs(there - BALL_MM) > 0.6
    assert (is_seven == (there < BALL_MM))[clear].all()


def test_an_undisturbed_scan_shows_the_anatomy_and_a_disturbed_one_nearly(anatomy: Anatomy) -> None:
    subject = draw_subject(anatomy, np.random.default_rng(1), spacing_mm=4.0)
    plain = resample(anatomy.intensity, subject.grid, subject).data.numpy().ravel()

    def correlation(variability: Variability) -> float:
        image, _ = render(anatomy, subject, np.random.default_rng(2), variability=variability)
        assert image.data.min() >= 0
        assert (image.data == image.data.round()).all()
        return float(np.corrcoef(image.data.numpy().ravel(), plain)[0, 1])

    assert correlation(CALM) > 0.9999
    assert 0.9 < correlation(Variability()) < 0.999
    assert correlation(replace(CALM, noise=0.1)) < correlation(replace(CALM, noise=0.05)) < 0.9999


def test_equal_seeds_give_equal_scans_and_others_do_not(anatomy: Anatomy) -> None:
    def scan(seed: int) -> tuple[Image, Image]:
        rng = np.random.default_rng(seed)
        return render(anatomy, draw_subject(anatomy, rng, spacing_mm=4.0), rng)

    (first, labels), (again, labels_again), (other, _) = scan(5), scan(5), scan(6)
    assert torch.equal(first.data, again.data)
    assert torch.equal(labels.data, labels_again.data)
    assert (first.grid.ras_from_voxel == again.grid.ras_from_voxel).all()
    assert first.data.shape != other.data.shape or not torch.equal(first.data, other.data)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_a_local_change_scales_the_ball_evenly_and_moves_nothing_beyond_its_reach(factor: float) -> None:
    change = LocalChange((5.0, -3.0, 2.0), 12.0, 30.0, factor)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(200, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inside = np.asarray(change.centre_ras) + direction * rng.uniform(0, change.radius_now_mm - 0.01, (200, 1))
    outside = np.asarray(change.centre_ras) + direction * rng.uniform(30, 60, (200, 1))
    assert change.then_from_now(outside) == pytest.approx(outside)
    step = 1e-4
    columns = [
        (change.then_from_now(inside + step * e) - change.then_from_now(inside - step * e)) / (2 * step)
        for e in np.eye(3)
    ]
    determinant_then_from_now = np.linalg.det(np.stack(columns, -1))
    assert 1 / determinant_then_from_now == pytest.approx(np.full(200, factor), rel=1e-5)
    surface = np.asarray(change.centre_ras) + direction * change.radius_now_mm
    then = np.linalg.norm(change.then_from_now(surface) - change.centre_ras, axis=1)
    assert then == pytest.approx(np.full(200, 12.0))
    assert change.then_from_now([change.centre_ras]) == pytest.approx(np.array([change.centre_ras]))


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.02, 30.0])
def test_a_local_change_that_folds_space_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be"):
        LocalChange((0.0, 0.0, 0.0), 12.0, 14.0, factor)


def test_an_unchanged_visit_shows_the_same_subject_elsewhere(anatomy: Anatomy) -> None:
    subject = draw_subject(anatomy, np.random.default_rng(0), spacing_mm=4.0)
    visit, subject_from_scan = draw_visit(subject, [], np.random.default_rng(1))
    voxel = np.random.default_rng(2).uniform(8, np.asarray(visit.grid.shape) - 9, (300, 3))
    points = visit.grid.to_ras(voxel)
    in_subject = points @ subject_from_scan[:3, :3].T + subject_from_scan[:3, 3]
    assert np.linalg.norm(in_subject - points, axis=1).min() > 0.5
    apart_mm = np.linalg.norm(visit.map(points) - subject.map(in_subject), axis=1)
    assert apart_mm.mean() < 0.05  # what linear interpolation between 4 mm voxels costs
    assert apart_mm.max() < 0.2


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_the_volume_of_a_structure_in_the_ball_changes_by_the_factor(anatomy: Anatomy, factor: float) -> None:
    subject = draw_subject(anatomy, np.random.default_rng(4), spacing_mm=2.5)
    centre = find_point(subject, BALL_RAS)
    assert subject.map(centre[None])[0] == pytest.approx(np.asarray(BALL_RAS), abs=1e-3)
    change = LocalChange((centre[0], centre[1], centre[2]), 24.0, 60.0, factor)
    volumes = []
    for changes in ([], [change]):
        visit, _ = draw_visit(subject, changes, np.random.default_rng(5))
        volumes.append(float(resample(anatomy.probabilities[7], visit.grid, visit).data.sum()))
    assert volumes[1] / volumes[0] == pytest.approx(factor, rel=0.01)


def test_coarser_voxels_see_an_average(anatomy: Anatomy) -> None:
    seen = anatomy.seen_at(9.0)
    assert seen.probabilities[7].data.sum() == pytest.approx(float(anatomy.probabilities[7].data.sum()), rel=1e-3)
    assert float(seen.probabilities[7].data.diff(dim=0).abs().max()) < float(
        anatomy.probabilities[7].data.diff(dim=0).abs().max()
    )
    assert torch.equal(anatomy.seen_at(3.0).intensity.data, anatomy.intensity.data)
