"""Endpoint error: how far a transform is from the one that is known to be true, at every voxel."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.spatial import Transform, voxel_coordinates
from covoxel.spatial.transform import apply_matrix


@dataclass(frozen=True)
class EndpointError:
    """Distances between where two transforms lead, over the voxels asked about.

    Parameters
    ----------
    mean_mm, median_mm, p95_mm, maximum_mm
        Of the distances in mm.
    mean_vox, maximum_vox
        The same in voxels of the fixed grid, as network papers print it; on anisotropic voxels no multiple of the mm.
    voxels
        Number of voxels asked about.
    """

    mean_mm: float
    median_mm: float
    p95_mm: float
    maximum_mm: float
    mean_vox: float
    maximum_vox: float
    voxels: int


def endpoint_error(transform: Transform, truth: Transform, mask: Tensor | None = None) -> EndpointError:
    """Endpoint error of a transform against a known one, both from the same fixed grid to the same moving world.

    Parameters
    ----------
    transform, truth
        Fixed to moving, on one grid. Matrix and displacement count together: how they share the work does not matter.
    mask
        `(*grid.shape)` bool; all voxels by default. Where the image is flat no method can know, so name what is scored.

    Raises
    ------
    ValueError
        If the grids differ, or the mask has another shape or is empty.

    References
    ----------
    Baker et al., A database and evaluation methodology for optical flow, IJCV 2011.
    """
    vectors = endpoint_vectors_mm(transform, truth)
    if mask is None:
        chosen = vectors.reshape(vectors.shape[0], -1)
    else:
        if mask.shape != vectors.shape[1:] or not mask.any():
            raise ValueError(f"mask must be {tuple(vectors.shape[1:])} and not empty, got {tuple(mask.shape)}")
        chosen = vectors[:, mask.to(vectors.device, torch.bool)]
    mm = chosen.norm(dim=0).cpu().numpy()
    vox = (_linear(transform.grid.voxel_from_ras, chosen) @ chosen).norm(dim=0).cpu().numpy()
    median, p95 = np.percentile(mm, (50, 95))
    return EndpointError(
        mean_mm=float(mm.mean()),
        median_mm=float(median),
        p95_mm=float(p95),
        maximum_mm=float(mm.max()),
        mean_vox=float(vox.mean()),
        maximum_vox=float(vox.max()),
        voxels=len(mm),
    )


def endpoint_vectors_mm(transform: Transform, truth: Transform) -> Tensor:
    """From where `truth` leads to where `transform` does, `(n, *grid.shape)` float64, RAS+ mm."""
    if not transform.grid.isclose(truth.grid):
        raise ValueError(f"transform and truth must be on one grid, got {transform.grid} and {truth.grid}")
    return _endpoints(transform) - _endpoints(truth)


def _endpoints(transform: Transform) -> Tensor:
    """Moving points of all voxels, `(n, *grid.shape)` float64, RAS+ mm."""
    grid, displacement = transform.grid, transform.displacement_mm
    like = torch.zeros((), dtype=torch.float64, device=None if displacement is None else displacement.device)
    points = apply_matrix(_matrix(grid.ras_from_voxel, like), voxel_coordinates(grid.shape, like))
    if displacement is not None:
        points = points + displacement[None].double()
    return apply_matrix(_matrix(transform.moving_from_fixed, like), points)[0]


def _matrix(matrix: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.tensor(matrix).to(like)[None]


def _linear(matrix: NDArray[np.float64], like: Tensor) -> Tensor:
    n = like.shape[0]
    return torch.tensor(matrix[:n, :n]).to(like)
