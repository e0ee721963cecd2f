"""One regulariser over the levels of a pyramid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.losses.base import Regulariser


def per_level(
    regulariser: Regulariser,
    fields_vox: Sequence[Tensor],
    level_weights: Sequence[float],
    *,
    spacings_mm: Sequence[Sequence[float]] | None = None,
) -> Tensor:
    r"""Weighted sum :math:`\sum_l \beta_l R(u_l)`, `(batch,)`.

    Parameters
    ----------
    regulariser
        One of `REGULARISERS`.
    fields_vox
        Field of each level, `(batch, n, *shape of the level)`, in voxels of the level.
    level_weights
        Weight of each level.
    spacings_mm
        Spacing of each level; in voxels of each level by default.

    Raises
    ------
    ValueError
        If the numbers of levels, weights and spacings differ.

    References
    ----------
    Gunnarsson, Sjölund and Schön, Learning a deformable registration pyramid, MICCAI 2020 challenges, 2021.
    """
    spacings = [None] * len(fields_vox) if spacings_mm is None else list(spacings_mm)
    if not fields_vox or not len(fields_vox) == len(level_weights) == len(spacings):
        counts = (len(fields_vox), len(level_weights), len(spacings))
        raise ValueError(f"fields_vox, level_weights and spacings_mm must be one a level, got {counts}")
    each = zip(fields_vox, level_weights, spacings, strict=True)
    return torch.stack([weight * regulariser(field, spacing_mm=spacing) for field, weight, spacing in each]).sum(0)
