"""Affine engine: a start pose, then descent on rotation, translation, scale and shear, coarse to fine."""

import numpy as np

from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.registration.objective import AffineObjective, AffineSetting, Freedom, descend
from covoxel.registration.poses import centre_of_mass, start_poses
from covoxel.spatial import Grid, Image, Transform


@ENGINES.register("affine")
def affine(
    fixed: Image,
    moving: MovingBatch,
    *,
    freedom: Freedom = "affine",
    similarity: str = "lncc",
    radius: int = 3,
    search: bool = True,
    iterations: tuple[int, ...] = (40, 30, 30),
    finest_voxels: int = 80_000,
) -> list[Transform]:
    """Register by an affine transform about the centre of mass of the fixed image.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    freedom
        "rigid" (6 parameters in 3-D), "similarity" (7) or "affine" (12).
    similarity
        A name of `covoxel.losses.SIMILARITIES`; "lncc" does not mind an inverted contrast, "nmi" and "mind" are for
        images of different modalities.
    radius
        Half-width of the similarity's window, cells of the level.
    search
        Compare poses turned by up to 26° about each axis and shifted onto each other's centres first; False trusts
        the headers.
    iterations
        Steps a level, coarse to fine; each level halves the spacing.
    finest_voxels
        The finest level has about so many cells at the most: more buys little accuracy.

    Returns
    -------
    list of Transform
        Without displacement. The cost is `sum(iterations)` samplings and similarities of at most `finest_voxels`
        cells a pair, and a tenth of that for the search.
    """
    setting = AffineSetting(freedom, similarity, radius)
    data = fixed.data[None, None].float()
    centre = centre_of_mass(data[0, 0], fixed.grid)
    parameters = start_poses(fixed, moving, centre, setting, search=search)
    finest = _finest_spacing(fixed.grid, finest_voxels)
    for power, steps in zip(reversed(range(len(iterations))), iterations, strict=True):
        objective = AffineObjective(data, fixed.grid, moving, centre, finest * 2**power, setting)
        parameters = descend(objective, parameters, steps)
    matrices = parameters.map(lambda part: part.double().cpu()).matrix(centre).numpy()
    return [Transform(fixed.grid, matrix) for matrix in matrices]


def _finest_spacing(grid: Grid, voxels: int) -> float:
    """Width of the cells of which `voxels` fill the image; no less than the finest spacing there is."""
    extent = np.asarray(grid.shape) * grid.spacing_mm
    cube: float = float(np.prod(extent) / voxels) ** (1 / grid.ndim)
    return max(cube, float(grid.spacing_mm.min()))
