"""ITK and ANTs must see our transforms as we see them, and we theirs: point by point and image by image."""

from collections.abc import Callable, Iterator
from pathlib import Path

import ants
import h5py
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from covoxel.io import (
    read_affine,
    read_displacement,
    read_image,
    read_transform,
    write_affine,
    write_displacement,
    write_image,
    write_transform,
)
from covoxel.spatial import Grid, Image, Transform, resample

POINT_MM = 1e-3
SPACING_MM = (1.0, 1.5, 2.5)
SHAPE = (17, 14, 11)
MOVING_SHAPE = (13, 16, 12)
ORIENTATIONS = ("RAS", "LAS", "LPS", "oblique")
OTHER = {"RAS": "oblique", "LAS": "RAS", "LPS": "LAS", "oblique": "LPS"}
CASES = [(n, orientation) for n in (2, 3) for orientation in ORIENTATIONS]


def make_grid(n: int, orientation: str, shape: tuple[int, ...] = SHAPE) -> Grid:
    linear = np.diag(SPACING_MM)
    if orientation == "oblique":
        about_s, about_r = np.eye(3), np.eye(3)
        about_s[:2, :2] = [[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]]
        about_r[1:, 1:] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
        linear = about_s @ (about_r if n == 3 else np.eye(3)) @ linear
    else:
        linear = np.diag([1.0 if letter in "RAS" else -1.0 for letter in orientation]) @ linear
    matrix = np.eye(n + 1)
    matrix[:n, :n] = linear[:n, :n]
    matrix[:n, n] = np.array([30.0, -12.0, 55.0])[:n] - linear[:n, :n] @ (np.array(shape[:n]) - 1) / 2
    return Grid(shape[:n], matrix)


def make_affine(n: int) -> NDArray[np.float64]:
    """Turn, scale and shear about the middle of the phantoms, and a shift."""
    linear = np.array([[1.05, 0.12, -0.03], [-0.10, 0.96, 0.05], [0.02, -0.06, 1.02]])[:n, :n]
    centre, shift = np.array([30.0, -12.0, 55.0])[:n], np.array([1.5, -0.7, 0.9])[:n]
    matrix = np.eye(n + 1)
    matrix[:n, :n], matrix[:n, n] = linear, centre + shift - linear @ centre
    return matrix


def make_transform(grid: Grid, rng: np.random.Generator) -> Transform:
    field = torch.from_numpy(rng.uniform(-1.5, 1.5, (grid.ndim, *grid.shape))).float()
    return Transform(grid, make_affine(grid.ndim), field)


def make_points(grid: Grid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points in and around the grid, none within a hair of its edge, where the field ends."""
    voxel = rng.uniform(-2, np.array(grid.shape) + 1, (300, grid.ndim))
    edge = np.minimum(np.abs(voxel + 0.5), np.abs(voxel - np.array(grid.shape) + 0.5)).min(1)
    assert (edge > 1e-3).sum() > 250
    return grid.to_ras(voxel[edge > 1e-3])


def mapped(point_map: Callable[[list[float]], tuple[float, ...]], points_ras: NDArray[np.float64]) -> NDArray:
    """RAS points through a map of single LPS points."""
    turn = np.array([-1.0, -1.0, 1.0])[: points_ras.shape[1]]
    return np.array([point_map(point.tolist()) for point in points_ras * turn]) * turn


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize(("n", "orientation"), CASES)
def test_simpleitk_maps_points_as_we_do(n: int, orientation: str, tmp_path: Path, rng: np.random.Generator) -> None:
    transform = make_transform(make_grid(n, orientation), rng)
    write_transform(tmp_path / "xfm.h5", transform)
    points = make_points(transform.grid, rng)
    theirs = mapped(sitk.ReadTransform(str(tmp_path / "xfm.h5")).TransformPoint, points)
    assert np.abs(theirs - transform.map(points)).max() < POINT_MM


@pytest.mark.parametrize(("n", "orientation"), CASES)
def test_ants_maps_points_as_we_do(n: int, orientation: str, tmp_path: Path, rng: np.random.Generator) -> None:
    transform = make_transform(make_grid(n, orientation), rng)
    write_transform(tmp_path / "xfm.h5", transform)
    points = make_points(transform.grid, rng)
    theirs = mapped(ants.read_transform(str(tmp_path / "xfm.h5"), precision="double").apply_to_point, points)
    assert np.abs(theirs - transform.map(points)).max() < POINT_MM


@pytest.mark.parametrize(("n", "orientation"), CASES)
def test_images_come_out_the_same(n: int, orientation: str, tmp_path: Path, rng: np.random.Generator) -> None:
    fixed_grid, moving_grid = make_grid(n, orientation), make_grid(n, OTHER[orientation], MOVING_SHAPE)
    transform = make_transform(fixed_grid, rng)
    moving = Image(torch.from_numpy(rng.uniform(0, 1, moving_grid.shape)).float(), moving_grid)
    write_image(tmp_path / "moving.nii.gz", moving)
    write_image(tmp_path / "fixed.nii.gz", Image(torch.zeros(fixed_grid.shape), fixed_grid))
    write_transform(tmp_path / "xfm.h5", transform)

    ours = resample(moving, fixed_grid, transform).data.numpy()
    by_itk = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "moving.nii.gz")),
        sitk.ReadImage(str(tmp_path / "fixed.nii.gz")),
        sitk.ReadTransform(str(tmp_path / "xfm.h5")),
    )
    by_ants = ants.apply_transforms(
        ants.image_read(str(tmp_path / "fixed.nii.gz")),
        ants.image_read(str(tmp_path / "moving.nii.gz")),
        [str(tmp_path / "xfm.h5")],
        interpolator="linear",
        singleprecision=False,
    )
    at = moving_grid.to_voxel(
        transform.map(fixed_grid.to_ras(np.moveaxis(np.indices(fixed_grid.shape), 0, -1).reshape(-1, n)))
    )
    inside = ((at > 0) & (at < np.array(moving_grid.shape) - 1)).all(1).reshape(fixed_grid.shape)
    assert inside.mean() > 0.3
    assert np.abs(ours - sitk.GetArrayFromImage(by_itk).T)[inside].max() < 1e-3
    assert np.abs(ours - by_ants.numpy())[inside].max() < 1e-3
    unmoved = resample(moving, fixed_grid, Transform(fixed_grid, transform.moving_from_fixed)).data.numpy()
    assert np.abs(ours - unmoved)[inside].max() > 0.1, "the displacement must matter"


@pytest.mark.parametrize(("n", "orientation"), CASES)
def test_a_grid_is_where_itk_and_ants_see_it(n: int, orientation: str, tmp_path: Path) -> None:
    grid = make_grid(n, orientation)
    write_image(tmp_path / "image.nii.gz", Image(torch.arange(float(grid.size)).reshape(grid.shape), grid))
    by_itk = sitk.ReadImage(str(tmp_path / "image.nii.gz"))
    by_ants = ants.image_read(str(tmp_path / "image.nii.gz"))
    assert by_itk.GetDimension() == by_ants.dimension == n
    corner = tuple(side - 1 for side in grid.shape)
    turn = np.array([-1.0, -1.0, 1.0])[:n]
    for index in ((0,) * n, corner, (3, 5, 2)[:n]):
        seen_by_itk = np.array(by_itk.TransformIndexToPhysicalPoint(index)) * turn
        seen_by_ants = np.array(ants.transform_index_to_physical_point(by_ants, index)) * turn
        assert np.abs(seen_by_itk - grid.to_ras(index)).max() < POINT_MM
        assert np.abs(seen_by_ants - grid.to_ras(index)).max() < POINT_MM
        assert by_itk[index] == by_ants.numpy()[index] == np.ravel_multi_index(index, grid.shape)


@pytest.mark.parametrize(("n", "orientation"), CASES)
def test_a_composite_by_simpleitk_is_read(n: int, orientation: str, tmp_path: Path, rng: np.random.Generator) -> None:
    written = make_transform(make_grid(n, orientation), rng)
    write_transform(tmp_path / "ours.h5", written)
    theirs = sitk.ReadTransform(str(tmp_path / "ours.h5"))
    sitk.WriteTransform(theirs, str(tmp_path / "theirs.h5"))
    read = read_transform(tmp_path / "theirs.h5")
    assert read.grid.isclose(written.grid, 1e-9)
    points = make_points(written.grid, rng)
    assert np.abs(read.map(points) - mapped(theirs.TransformPoint, points)).max() < 1e-5


def linear_transforms(n: int) -> list[sitk.Transform]:
    if n == 2:
        euler = sitk.Euler2DTransform((5, 6), 0.3, (1, 2))
        similarity = sitk.Similarity2DTransform(1.1, 0.2, (3, -4), (5, 6))
    else:
        euler = sitk.Euler3DTransform((5, 6, 7), 0.3, -0.2, 0.4, (1, 2, 3))
        euler.SetComputeZYX(True)
        similarity = sitk.Similarity3DTransform(1.1, (0.1, 0.2, -0.3), 0.4, (3, -4, 5), (6, 7, 8))
    affine = sitk.AffineTransform(n)
    affine.SetMatrix(make_affine(n)[:n, :n].ravel())
    affine.SetCenter([9.0, -8.0, 7.0][:n])
    return [
        euler,
        similarity,
        affine,
        sitk.TranslationTransform(n, [3.0, -1.0, 2.0][:n]),
        sitk.Transform(n, sitk.sitkIdentity),
    ]


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".mat"])
@pytest.mark.parametrize("n", [2, 3])
def test_every_linear_transform_of_itk_is_read(n: int, suffix: str, tmp_path: Path, rng: np.random.Generator) -> None:
    grid = make_grid(n, "oblique")
    points = make_points(grid, rng)
    for number, linear in enumerate(linear_transforms(n)):
        path = tmp_path / f"{number}{suffix}"
        sitk.WriteTransform(linear, str(path))
        read = read_transform(path, grid)
        assert read.displacement_mm is None
        assert np.abs(read.map(points) - mapped(linear.TransformPoint, points)).max() < 1e-6
        assert np.allclose(read_affine(path), read.moving_from_fixed)


@pytest.mark.parametrize("n", [2, 3])
def test_a_field_between_linear_ones_is_evaluated_at_the_voxels(
    n: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    inner = make_transform(make_grid(n, "LAS"), rng)
    write_transform(tmp_path / "inner.h5", inner)
    chain = sitk.CompositeTransform(linear_transforms(n)[:1])
    chain.AddTransform(sitk.ReadTransform(str(tmp_path / "inner.h5")))
    chain.AddTransform(linear_transforms(n)[3])
    chain.FlattenTransform()
    sitk.WriteTransform(chain, str(tmp_path / "chain.h5"))

    grid = make_grid(n, "oblique", MOVING_SHAPE)
    read = read_transform(tmp_path / "chain.h5", grid)
    voxels = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, n))
    assert np.abs(read.map(voxels) - mapped(chain.TransformPoint, voxels)).max() < 1e-4
    with pytest.raises(ValueError, match="grid"):
        read_transform(tmp_path / "chain.h5")


def test_linear_transforms_after_a_field_are_multiplied_in_order(tmp_path: Path, rng: np.random.Generator) -> None:
    inner = make_transform(make_grid(3, "LAS"), rng)
    write_transform(tmp_path / "inner.h5", inner)
    chain = sitk.CompositeTransform(linear_transforms(3)[:2])
    chain.AddTransform(sitk.ReadTransform(str(tmp_path / "inner.h5")))
    chain.FlattenTransform()
    sitk.WriteTransform(chain, str(tmp_path / "chain.h5"))
    read = read_transform(tmp_path / "chain.h5")
    points = make_points(inner.grid, rng)
    assert np.abs(read.map(points) - mapped(chain.TransformPoint, points)).max() < 1e-4


def test_a_field_on_another_grid_is_evaluated_on_the_one_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    written = make_transform(make_grid(3, "LPS"), rng)
    write_transform(tmp_path / "xfm.h5", written)
    grid = make_grid(3, "oblique", MOVING_SHAPE)
    read = read_transform(tmp_path / "xfm.h5", grid)
    voxels = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    assert read.grid is grid
    assert np.abs(read.map(voxels) - written.map(voxels)).max() < POINT_MM


def test_a_bspline_is_evaluated_on_the_grid(tmp_path: Path, rng: np.random.Generator) -> None:
    grid = make_grid(3, "RAS")
    write_image(tmp_path / "fixed.nii.gz", Image(torch.zeros(grid.shape), grid))
    bspline = sitk.BSplineTransformInitializer(sitk.ReadImage(str(tmp_path / "fixed.nii.gz")), [3, 3, 3])
    bspline.SetParameters(rng.uniform(-2, 2, len(bspline.GetParameters())).tolist())
    sitk.WriteTransform(bspline, str(tmp_path / "bspline.h5"))
    read = read_transform(tmp_path / "bspline.h5", grid)
    voxels = grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3))
    assert np.abs(read.map(voxels) - mapped(bspline.TransformPoint, voxels)).max() < 1e-4


def put(path: Path, stages: list[tuple[str, list[float], list[float]]]) -> None:
    """Write an ITK HDF5 file by hand, as older programs do: nested composites, base classes."""
    with h5py.File(path, "w") as h5:
        for name in ("ITKVersion", "HDFVersion", "OSName", "OSVersion"):
            h5.create_dataset(name, (1,), h5py.string_dtype("ascii"), ["1"])
        for number, (kind, parameters, fixed) in enumerate(stages):
            group = h5.create_group(f"TransformGroup/{number}")
            group.create_dataset("TransformType", (1,), h5py.string_dtype("ascii"), [f"{kind}_double_3_3"])
            if not kind.startswith("Composite"):
                group["TransformParameters"], group["TransformFixedParameters"] = np.array(parameters), np.array(fixed)


COMPOSITE: tuple[str, list[float], list[float]] = ("CompositeTransform", [], [])
SHIFT: tuple[str, list[float], list[float]] = ("TranslationTransform", [1.0, 0.0, 0.0], [0.0])
STRETCH: tuple[str, list[float], list[float]] = (
    "MatrixOffsetTransformBase",
    [2.0, 0, 0, 0, 1, 0, 0, 0, 1, 5, 0, 0],
    [1.0, 0, 0],
)


@pytest.mark.parametrize("stages", [[COMPOSITE, STRETCH, SHIFT], [COMPOSITE, COMPOSITE, STRETCH, SHIFT]])
def test_nested_composites_and_base_classes_are_read_last_first(
    stages: list[tuple[str, list[float], list[float]]], tmp_path: Path
) -> None:
    put(tmp_path / "xfm.h5", stages)
    read = read_transform(tmp_path / "xfm.h5", make_grid(3, "RAS"))
    # In LPS x -> 2 (x + 1 - 1) + 1 + 5 along the first axis: 6 at 0, which is -6 at 0 in RAS.
    assert np.allclose(read.map([[0.0, 0.0, 0.0], [-1.0, 2.0, 3.0]]), [[-6.0, 0.0, 0.0], [-8.0, 2.0, 3.0]])


def test_a_base_class_around_a_field_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    written = make_transform(make_grid(3, "LPS"), rng)
    write_transform(tmp_path / "xfm.h5", written)
    with h5py.File(tmp_path / "xfm.h5", "r+") as h5:
        h5["TransformGroup/1/TransformType"][:] = ["MatrixOffsetTransformBase_double_3_3"]
    read = read_transform(tmp_path / "xfm.h5")
    points = make_points(written.grid, rng)
    assert np.abs(read.map(points) - written.map(points)).max() < POINT_MM


def test_transforms_side_by_side_are_refused_rather_than_read_in_part(tmp_path: Path) -> None:
    put(tmp_path / "xfm.h5", [SHIFT, STRETCH])
    shift = "Transform: TranslationTransform_double_3_3\nParameters: 1 0 0\nFixedParameters:\n"
    (tmp_path / "xfm.tfm").write_text(f"#Insight Transform File V1.0\n#Transform 0\n{shift}#Transform 1\n{shift}")
    for name in ("xfm.h5", "xfm.tfm"):
        with pytest.raises(ValueError, match="2 transforms side by side"):
            read_transform(tmp_path / name, make_grid(3, "RAS"))


@pytest.fixture
def ants_repeats() -> Iterator[None]:
    """ANTs samples at random, and by chance far from the images: here always alike."""
    ants.config.set_ants_deterministic(True, seed_value=1)
    yield
    ants.config.set_ants_deterministic(False)


@pytest.mark.parametrize("n", [2, 3])
def test_what_ants_registration_writes_is_read(n: int, tmp_path: Path, ants_repeats: None) -> None:
    """The composite, and the affine and warp files, of a real (short) registration move the image as ANTs does."""
    fixed, moving = make_grid(n, "LAS", (28, 26, 24)), make_grid(n, "oblique", (27, 25, 26))
    for name, grid, shift in (("fixed", fixed, 0.0), ("moving", moving, 2.0)):
        points = np.moveaxis(grid.to_ras(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)
        away = [(p - c - shift) / w for p, c, w in zip(points, (30, -12, 55), (7 + shift, 9, 12), strict=False)]
        blob = torch.from_numpy(np.exp(-sum(a**2 for a in away)) + 0.3 * np.sin(away[0]) * np.exp(-0.3 * away[1] ** 2))
        write_image(tmp_path / f"{name}.nii.gz", Image(blob.float(), grid))
    images = [ants.image_read(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving")]
    settings = {
        "reg_iterations": (5, 3),
        "aff_iterations": (10, 10, 0, 0),
        "aff_shrink_factors": (2, 1, 1, 1),
        "aff_smoothing_sigmas": (1, 0, 0, 0),
    }
    one = ants.registration(
        *images, "SyN", write_composite_transform=True, outprefix=str(tmp_path / "one_"), **settings
    )
    two = ants.registration(*images, "SyN", outprefix=str(tmp_path / "two_"), **settings)
    warp_file, affine_file = (Path(name) for name in two["fwdtransforms"])
    displacement_mm, grid = read_displacement(warp_file)
    for found, read in (
        (one, read_transform(Path(one["fwdtransforms"]))),
        (two, Transform(grid, read_affine(affine_file), displacement_mm)),
    ):
        assert read.grid.isclose(fixed)
        assert read.displacement_mm is not None
        assert read.displacement_mm.abs().max() > 0.1, "the displacement must matter"
        moved = resample(read_image(tmp_path / "moving.nii.gz"), read.grid, read).data.numpy()
        at = moving.to_voxel(read.map(fixed.to_ras(np.moveaxis(np.indices(fixed.shape), 0, -1).reshape(-1, n))))
        inside = ((at > 0) & (at < np.array(moving.shape) - 1)).all(1).reshape(fixed.shape)
        assert inside.mean() > 0.3
        assert np.abs(moved - found["warpedmovout"].numpy())[inside].max() < 1e-3


@pytest.mark.parametrize(("n", "orientation"), CASES)
def test_a_displacement_and_an_affine_file_mean_the_same_to_itk(
    n: int, orientation: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    transform = make_transform(make_grid(n, orientation), rng)
    assert transform.displacement_mm is not None
    write_displacement(tmp_path / "warp.nii.gz", transform.displacement_mm, transform.grid)
    write_affine(tmp_path / "affine.mat", transform.moving_from_fixed)
    vectors = sitk.ReadImage(str(tmp_path / "warp.nii.gz"), sitk.sitkVectorFloat64)
    chain = sitk.CompositeTransform(
        [sitk.ReadTransform(str(tmp_path / "affine.mat")), sitk.DisplacementFieldTransform(vectors)]
    )
    points = make_points(transform.grid, rng)
    assert np.abs(mapped(chain.TransformPoint, points) - transform.map(points)).max() < POINT_MM

    by_ants = ants.apply_transforms_to_points(
        n,
        pd.DataFrame(points * np.array([-1.0, -1.0, 1.0])[:n], columns=list("xyz")[:n]),
        [str(tmp_path / "warp.nii.gz"), str(tmp_path / "affine.mat")],
    )
    assert np.abs(by_ants.to_numpy() * np.array([-1.0, -1.0, 1.0])[:n] - transform.map(points)).max() < POINT_MM
