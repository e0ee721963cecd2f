"""Transforms as ITK files: what ANTs, SimpleITK, 3D Slicer and ITK-SNAP read. LPS lives here."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from torch import Tensor

from covoxel.io.atomic import write_bytes
from covoxel.io.images import vector_grid
from covoxel.io.nifti_file import write_nifti
from covoxel.io.nifti_header import read_nifti_fields
from covoxel.io.raw import ImageError, check_memory, read_stored
from covoxel.io.transform_file import read_itk, sitk
from covoxel.spatial import Grid, Transform

_STEP_MM = 2.0**-13  # displacements are kept to 6e-5 mm; a power of two leaves zero bits, which compress
_GZIP_LEVEL = 1
_CHUNK = 2**18


def write_transform(path: Path, transform: Transform) -> None:
    """Write `transform` as one ITK composite, atomically; the same transform gives the same bytes.

    Parameters
    ----------
    path
        Ends in `.h5`.
    transform
        Its displacement is applied first, then its matrix, as ITK applies the last of a composite first. The
        displacement is float32, in steps of 2⁻¹³ mm. The grid of an affine transform is not kept: ITK has no
        place for it.

    Raises
    ------
    ValueError
        If the suffix is another one, or the displacement is not finite.
    """
    _check_suffix(path, ".h5")
    n = transform.grid.ndim
    file = io.BytesIO()
    with h5py.File(file, "w", libver="earliest") as h5:
        for name, text in (("ITKVersion", "5.4.0"), ("HDFVersion", "1.12"), ("OSName", ""), ("OSVersion", "")):
            _put_text(h5, name, text)
        _put_text(h5, "TransformGroup/0/TransformType", f"CompositeTransform_double_{n}_{n}")
        matrix = _lps(n) @ transform.moving_from_fixed @ _lps(n)
        affine = np.concatenate([matrix[:n, :n].ravel(), matrix[:n, n]])
        _put_stage(h5, 1, f"AffineTransform_double_{n}_{n}", affine, np.zeros(n))
        if transform.displacement_mm is not None:
            field = _steps(path, transform.displacement_mm)
            _put_stage(h5, 2, f"DisplacementFieldTransform_double_{n}_{n}", field, _fixed_parameters(transform.grid))
    write_bytes(path, file.getvalue())


def read_transform(path: Path, grid: Grid | None = None) -> Transform:
    """Read a transform that covoxel, ANTs or SimpleITK wrote.

    Parameters
    ----------
    path
        ITK transform file (`.h5`, `.mat`, `.txt`, `.tfm`) of any linear transforms, displacement fields and B-splines,
        composites and nested composites of them.
    grid
        Grid of the fixed image. Needed if the file has no displacement field that is applied first. A transform
        that is no field on this grid followed by linear ones is evaluated at the voxel centres of `grid`.

    Raises
    ------
    ValueError
        If the file is damaged, of another dimension than `grid`, or needs a `grid` to be read.
    """
    itk = read_itk(path)
    stages = _stages(itk)
    n = itk.GetDimension()
    if grid is not None and grid.ndim != n:
        raise ValueError(f"{path} is a {n}-D transform; it must have the {grid.ndim} dimensions of the fixed grid")
    linear = _linear_part(path, stages, n)
    matrix = _lps(n) @ linear @ _lps(n)
    curved = [stage for stage in stages if not stage.IsLinear()]
    if not curved:
        return Transform(_needed(path, grid), matrix)
    field = _field(stages[0])
    if field is not None:
        own = _grid_of(field)
        if len(curved) == 1 and (grid is None or grid.isclose(own)):
            return Transform(grid or own, matrix, _displacement_ras(path, sitk.GetArrayViewFromImage(field)))
        grid = grid or own
    return _evaluated(path, itk, linear, _needed(path, grid))


def write_affine(path: Path, moving_from_fixed: NDArray[np.float64]) -> None:
    """Write a `(n + 1, n + 1)` matrix in RAS+ mm as an ITK affine transform (`.mat`), atomically."""
    _check_suffix(path, ".mat")
    n = len(moving_from_fixed) - 1
    matrix = _lps(n) @ np.asarray(moving_from_fixed, dtype=np.float64) @ _lps(n)
    file = io.BytesIO()
    parameters = np.concatenate([matrix[:n, :n].ravel(), matrix[:n, n]])[:, None]
    savemat(file, {f"AffineTransform_double_{n}_{n}": parameters, "fixed": np.zeros((n, 1))}, format="4")
    write_bytes(path, file.getvalue())


def read_affine(path: Path) -> NDArray[np.float64]:
    """Read the matrix `moving_from_fixed`, `(n + 1, n + 1)` RAS+ mm, of an ITK file of linear transforms.

    Raises
    ------
    ValueError
        If the file is damaged, or holds a transform that is not linear.
    """
    itk = read_itk(path)
    if not itk.IsLinear():
        raise ValueError(f"{path} holds a {itk.GetName()}; an affine must be made of linear transforms only")
    n = itk.GetDimension()
    matrix: NDArray[np.float64] = _lps(n) @ _linear_part(path, [itk], n) @ _lps(n)
    return matrix


def write_displacement(path: Path, displacement_mm: Tensor, grid: Grid) -> None:
    """Write a displacement, `(n, *grid.shape)` RAS+ mm, as an ITK vector image in LPS (`.nii.gz`), atomically."""
    n = grid.ndim
    if tuple(displacement_mm.shape) != (n, *grid.shape):
        raise ValueError(f"displacement_mm must be {(n, *grid.shape)}, got {tuple(displacement_mm.shape)}")
    vectors = displacement_mm.detach().float().movedim(0, -1).cpu().numpy() * np.diag(_lps(n))[:n].astype(np.float32)
    write_nifti(Path(path), vectors, grid, vector=True)


def read_displacement(path: Path) -> tuple[Tensor, Grid]:
    """Read a displacement, `(n, *grid.shape)` float32 RAS+ mm, and its grid from an ITK vector image (`.nii.gz`).

    Raises
    ------
    ImageError
        As for `read_image`, and if the file is no field of 2-D or 3-D vectors.
    """
    fields = read_nifti_fields(Path(path))
    grid = vector_grid(fields)
    n = grid.ndim
    check_memory(fields.path, fields.count * (fields.dtype.itemsize + 12))
    vectors = read_stored(fields).reshape((*grid.shape, n), order="F").astype(np.float32)
    vectors = vectors * np.float32(fields.slope) + np.float32(fields.intercept)
    if not np.isfinite(vectors).all():
        raise ImageError(f"{path} holds displacements that are not finite; every one must be")
    turned = np.moveaxis(vectors * np.diag(_lps(n))[:n].astype(np.float32), -1, 0)
    return torch.from_numpy(np.ascontiguousarray(turned)), grid


def _lps(n: int) -> NDArray[np.float64]:
    """Matrix from RAS+ to LPS+ and back, `(n + 1, n + 1)`."""
    return np.diag([-1.0, -1.0, 1.0, 1.0] if n == 3 else [-1.0, -1.0, 1.0])


def _check_suffix(path: Path, suffix: str) -> None:
    if Path(path).suffix != suffix:
        raise ValueError(f"{path} must end in {suffix}, got {Path(path).suffix!r}")


def _put_text(h5: h5py.File, name: str, text: str) -> None:
    h5.create_dataset(name, (1,), h5py.string_dtype("ascii"), [text])


def _put_stage(
    h5: h5py.File, number: int, kind: str, parameters: NDArray[np.floating], fixed: NDArray[np.float64]
) -> None:
    group = f"TransformGroup/{number}"
    _put_text(h5, f"{group}/TransformType", kind)
    h5.create_dataset(f"{group}/TransformFixedParameters", data=fixed)
    if parameters.size < 64:
        h5.create_dataset(f"{group}/TransformParameters", data=parameters)
        return
    h5.create_dataset(
        f"{group}/TransformParameters",
        data=parameters,
        chunks=(min(_CHUNK, parameters.size),),
        compression="gzip",
        compression_opts=_GZIP_LEVEL,
        shuffle=True,
    )


def _steps(path: Path, displacement_mm: Tensor) -> NDArray[np.float32]:
    """Displacement as ITK lays it out: LPS, vectors together, first axis fastest; in whole steps."""
    n = displacement_mm.shape[0]
    field = displacement_mm.detach().float().cpu()
    if not bool(torch.isfinite(field).all()):
        raise ValueError(f"{path} must be written from finite displacements, got NaN or infinity")
    lps = torch.tensor(np.diag(_lps(n))[:n].tolist())
    turned = field.permute(*range(n, 0, -1), 0).contiguous().mul_(lps / _STEP_MM).round_().mul_(_STEP_MM)
    values: NDArray[np.float32] = turned.add_(0.0).numpy().ravel()  # + 0 makes -0 to 0
    return values


def _displacement_ras(path: Path, vectors: NDArray[np.floating]) -> Tensor:
    """Displacement `(n, *shape)` float32 RAS+ of ITK's array `(k, j, i, n)`."""
    if not np.isfinite(vectors).all():
        raise ValueError(f"{path} holds displacements that are not finite; every one must be")
    n = vectors.shape[-1]
    turned = vectors.transpose(n, *range(n - 1, -1, -1)).astype(np.float32, order="C")
    turned[:2] *= -1
    turned += np.float32(0)  # makes -0 to 0
    return torch.from_numpy(turned)


def _frame(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Origin `(n,)`, spacing `(n,)` and direction `(n, n)` of a grid in LPS."""
    n = grid.ndim
    matrix = _lps(n) @ grid.ras_from_voxel
    return matrix[:n, n], grid.spacing_mm, matrix[:n, :n] / grid.spacing_mm


def _fixed_parameters(grid: Grid) -> NDArray[np.float64]:
    origin, spacing, direction = _frame(grid)
    return np.concatenate([np.asarray(grid.shape, dtype=np.float64), origin, spacing, direction.ravel()])


def _grid_of(image: Any) -> Grid:
    n = image.GetDimension()
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.asarray(image.GetDirection()).reshape(n, n) * np.asarray(image.GetSpacing())
    matrix[:n, n] = image.GetOrigin()
    return Grid(image.GetSize(), _lps(n) @ matrix)


def _stages(itk: Any) -> list[Any]:
    """List the transforms of a composite, nested ones taken apart, in the order in which they are applied.

    What is linear stays whole: SimpleITK shows kinds it does not know, such as MatrixOffsetTransformBase, as
    composites of themselves without end.
    """
    if itk.GetTransformEnum() != sitk.sitkComposite or itk.IsLinear():
        return [itk]
    composite = sitk.CompositeTransform(itk)
    parts = [composite.GetNthTransform(i) for i in reversed(range(composite.GetNumberOfTransforms()))]
    return [stage for part in parts for stage in _stages(part)]


def _linear_part(path: Path, stages: list[Any], n: int) -> NDArray[np.float64]:
    """Product of the linear stages, `(n + 1, n + 1)` in LPS, found by mapping the origin and the unit vectors."""
    product = np.eye(n + 1)
    for stage in stages:
        if not stage.IsLinear():
            continue
        matrix = np.eye(n + 1)
        matrix[:n, n] = stage.TransformPoint([0.0] * n)
        for axis in range(n):
            matrix[:n, axis] = np.asarray(stage.TransformPoint(np.eye(n)[axis].tolist())) - matrix[:n, n]
        product = matrix @ product
    if not np.isfinite(product).all() or abs(np.linalg.det(product)) < 1e-12:
        raise ValueError(f"{path} holds the matrix {product.tolist()}; it must be finite and invertible")
    return product


def _field(stage: Any) -> Any | None:
    if stage.GetTransformEnum() != sitk.sitkDisplacementField:
        return None
    return sitk.DisplacementFieldTransform(stage).GetDisplacementField()


def _needed(path: Path, grid: Grid | None) -> Grid:
    if grid is None:
        raise ValueError(f"{path} does not hold the grid of the fixed image; the argument grid must name it")
    return grid


def _evaluated(path: Path, itk: Any, linear: NDArray[np.float64], grid: Grid) -> Transform:
    """Any transform as a displacement on `grid` followed by the matrix `linear`, exact at the voxel centres."""
    n = grid.ndim
    origin, spacing, direction = _frame(grid)
    image = sitk.TransformToDisplacementField(
        itk, sitk.sitkVectorFloat64, list(grid.shape), origin.tolist(), spacing.tolist(), direction.ravel().tolist()
    )
    shift = sitk.GetArrayFromImage(image)
    axes = np.meshgrid(*[np.arange(side, dtype=np.float64) for side in reversed(grid.shape)], indexing="ij")
    fixed = np.stack(axes[::-1], -1) @ (direction * spacing).T + origin
    back = np.linalg.inv(linear)
    displacement = (fixed + shift) @ back[:n, :n].T + back[:n, n] - fixed
    return Transform(grid, _lps(n) @ linear @ _lps(n), _displacement_ras(path, displacement))
