"""How good a template is: how sharp, how well centred, and how well the labels of its cases meet on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import common
from benchmarks.measure import import_ants
from covoxel.io import read_image, read_labels
from covoxel.registration import register
from covoxel.spatial import Image, Transform, resample_probabilities

JUDGES = ("svf", "ANTs SyN")
"""Who brings all cases onto a finished template, ours and ANTs' alike, to see how they meet there."""


@dataclass(frozen=True)
class Scores:
    """Of a template.

    Parameters
    ----------
    sharpness
        Mean length of the gradient, standard deviations of the template a mm.
    off_centre_mm
        Root mean square over voxels of the mean of all cases' displacements from the template, affine part included.
    bent_off_mm
        The same of the deformable part alone.
    dice
        Mean over pairs of cases and structures of the Dice of their labels on the template.
    """

    sharpness: float
    off_centre_mm: float
    bent_off_mm: float
    dice: float


def scores(template: Path, images: Mapping[str, Path], labels: Mapping[str, Path], judge: str, seed: int) -> Scores:
    """Scores of a template by the registrations of one judge, which had no part in making it."""
    fixed = read_image(template)
    whole = torch.zeros(fixed.grid.ndim, *fixed.grid.shape, dtype=torch.float64)
    bent = torch.zeros_like(whole)
    maps = []
    values = torch.tensor(
        sorted({int(v) for path in labels.values() for v in np.unique(read_labels(path).data.numpy())} - {0})
    )
    for case in images:
        transform = _by(judge, template, fixed, images[case], seed)
        whole += _displacement(transform)
        bent += 0 if transform.displacement_mm is None else transform.displacement_mm.double()
        maps.append(resample_probabilities(read_labels(labels[case]), values, fixed.grid, transform) > 0.5)
    return Scores(
        sharpness(fixed), _length(whole / len(images)), _length(bent / len(images)), pairwise_dice(torch.stack(maps))
    )


def sharpness(template: Image) -> float:
    """Mean length of the gradient, standard deviations a mm."""
    data = template.data.double().numpy()
    steps = np.gradient(data / data.std(), *template.grid.spacing_mm)
    return float(np.sqrt(sum(step**2 for step in steps)).mean())


def pairwise_dice(maps: Tensor) -> float:
    """Mean over structures, then over pairs, of masks `(case, structure, *shape)`."""
    flat = maps.flatten(2).float()
    found = []
    for structure in range(flat.shape[1]):
        own = flat[:, structure]
        both, sizes = own @ own.T, own.sum(1)
        dice = 2 * both / (sizes[:, None] + sizes[None])
        rows, columns = torch.triu_indices(len(dice), len(dice), 1)
        found.append(float(dice[rows, columns].mean()))
    return float(np.mean(found))


def _by(judge: str, template: Path, fixed: Image, case: Path, seed: int) -> Transform:
    if judge == "svf":
        return register("svf", fixed, [read_image(case)])[0]
    ants = import_ants(seed)
    found = ants.registration(ants.image_read(str(template)), ants.image_read(str(case)), type_of_transform="SyN")
    try:
        return common.transform_of_ants(found["fwdtransforms"], fixed.grid)
    finally:
        common.remove_files([*found["fwdtransforms"], *found["invtransforms"]])


def _displacement(transform: Transform) -> Tensor:
    """Where the case lies of each voxel of the template, less where the voxel lies, mm, `(n, *shape)` float64."""
    grid, n = transform.grid, transform.grid.ndim
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    at = torch.tensor(np.moveaxis(grid.to_ras(voxels), -1, 0))
    matrix = torch.tensor(transform.moving_from_fixed)
    moved = at if transform.displacement_mm is None else at + transform.displacement_mm.double()
    shape = (-1, *[1] * n)
    return torch.einsum("cd,d...->c...", matrix[:n, :n], moved) + matrix[:n, n].view(shape) - at


def _length(field: Tensor) -> float:
    return float(field.square().sum(0).mean().sqrt())
