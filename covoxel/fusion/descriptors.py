"""What a voxel looks like and where it lies, in numbers that no increasing change of contrast alters."""

from collections.abc import Callable

import torch
from torch import Tensor

from covoxel.fusion.windows import locally_normalised, window_mean

_SAMPLE = 100_000
_FLAT = 1e-3  # voxels
_STEP = 1e-4
_OFF_STEP = 0.37  # means of ranks are fractions of small numbers: away from the edges of the steps

MARGIN = 6
"""Voxels around the voxel that its descriptors depend on."""

_VIEWS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda image, inside: image,
    lambda image, inside: window_mean(image, inside, 1),
    lambda image, inside: window_mean(image, inside, 2),
    lambda image, inside: locally_normalised(image, inside, MARGIN),
)
"""The intensity, its mean nearby and a little farther, and its contrast with what is around."""

DESCRIPTORS = len(_VIEWS)


def descriptors(image: Tensor, inside: Tensor, voxels: Tensor) -> Tensor:
    """Ranks, `(m, descriptor)` in 0 to 1, of the intensities at and around voxels among those of the same image.

    Intensities are replaced by their rank among the voxels first, and each view of them again by its rank.

    Parameters
    ----------
    image
        `(*shape)` intensities.
    inside
        `(*shape)` bool, the voxels with an intensity; those beyond are not looked at.
    voxels
        `(*shape)` bool, the m voxels to describe; ranks are among those of them that are inside.
    """
    counted = voxels & inside
    ranks = _rank(image, image[counted]).masked_fill_(~inside, 0.5)[None, None]
    within = inside[None, None].to(ranks.dtype)
    views = [view(ranks, within)[0, 0] for view in _VIEWS]
    return torch.stack([_rank(_stepped(view[voxels]), _stepped(view[counted])) for view in views], 1)


def places(voxels: Tensor) -> Tensor:
    """Coordinates `(m, n)` of the true voxels, standardised, and their products, `(m, n + n (n + 1) / 2)`."""
    at = voxels.nonzero().to(torch.get_default_dtype())
    at = (at - at.mean(0)) / at.std(0, correction=0).clamp_(min=_FLAT)
    first, second = torch.triu_indices(at.shape[1], at.shape[1], device=at.device)
    return torch.cat([at, at[:, first] * at[:, second]], 1)


def _stepped(values: Tensor) -> Tensor:
    """Values in steps far above rounding, so that those equal but for it have the same rank."""
    return (values / _STEP + _OFF_STEP).round_()


def _rank(values: Tensor, among: Tensor) -> Tensor:
    """Share of `among` that is smaller than each of `values`, ties by half; 0.5 where there is none to compare."""
    if not len(among):
        return torch.full_like(values, 0.5)
    ordered = among[:: max(1, len(among) // _SAMPLE)].sort().values
    values = values.contiguous()
    below, up_to = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return (below + up_to).to(values.dtype).div_(2 * len(ordered))
