"""Synthetic pairs: one image seen through two random maps, so that the displacement between them is known."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.spatial import voxel_coordinates
from covoxel.spatial.transform import apply_matrix
from covoxel.training.augmentation import Augmentation, b_spline, random_affines
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.pairs import Pairs, repaint, sample_all
from covoxel.training.registration.recipe import WarpSettings


def synthetic_pairs(
    cases: Sequence[TrainingCase],
    how: WarpSettings,
    paint: Augmentation,
    source: torch.Generator,
    device: torch.device | str,
    *,
    still: bool = False,
) -> Pairs:
    r"""A pair of each case's image.

    Of one image :math:`I` the fixed one is :math:`I \circ T_f`, an affine and a smooth map, and the moving one
    :math:`I \circ T_m`, affine alone, so that :math:`u(x) = T_m^{-1}(T_f(x)) - x` is exact. Intensities change
    separately. Neither another image nor a label is read.

    Parameters
    ----------
    cases
        One for each pair.
    how
        How the maps are drawn.
    paint
        How the intensities change; its geometry is not used.
    source
        Generator on the CPU.
    device
        Where the pairs are wanted.
    still
        Draw no displacement: both maps are the affine one of the fixed image.

    References
    ----------
    Young et al., SuperWarp: supervised learning and warping on U-Net for invariant subvoxel-precise registration,
    WBIR 2022. Different here: each pair draws how strong its smooth map is.
    """
    shape, count = tuple(cases[0].image.shape), len(cases)
    geometry = Augmentation(how.rotation_rad, how.scale, how.shift, how.warp_vox, how.control_vox, noise=0, gain=0)
    identity = voxel_coordinates(shape, torch.zeros((), device=device))
    of_fixed = random_affines(shape, geometry, source, count=count).to(device)
    of_moving = random_affines(shape, geometry, source, count=count).to(device)
    strength = torch.rand(count, generator=source)
    smooth = b_spline(shape, geometry, source, count=count, strength=strength, device=device)
    fixed_at, moving_at = apply_matrix(of_fixed, identity), apply_matrix(of_moving, identity)
    if still:
        moving_at, truth = fixed_at, torch.zeros_like(fixed_at)
    else:
        fixed_at = fixed_at + smooth
        truth = _through(torch.linalg.inv(of_moving), fixed_at) - identity
    images = torch.stack([case.image for case in cases])[:, None].to(device).float()
    masks = torch.stack([case.mask for case in cases])[:, None].to(device).float()
    none = images.new_zeros((0, 0, *shape))
    seen, inside, _ = sample_all(
        torch.cat([images, images]), torch.cat([masks, masks]), none, torch.cat([fixed_at, moving_at])
    )
    painted = repaint(seen, paint, source)
    return Pairs(painted[:count], painted[count:], inside[:count], inside[count:], none, none, truth)


def _through(matrices: Tensor, points: Tensor) -> Tensor:
    """Images of points `(batch, n, *shape)`, each batch under its own matrix `(batch, n + 1, n + 1)`."""
    n = points.shape[1]
    flat = torch.baddbmm(matrices[:, :n, n:], matrices[:, :n, :n], points.flatten(2))
    return flat.view_as(points)
