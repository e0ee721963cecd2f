"""Modality independent neighbourhood descriptors (self-similarity context)."""

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from covoxel.losses.base import SIMILARITIES, MovedLoss, masked_mean
from covoxel.losses.box import box_sum


@SIMILARITIES.register("mind")
def mind(fixed: Tensor, mask: Tensor, *, radius: int = 1) -> MovedLoss:
    """Mean squared difference of MIND-SSC descriptors; for images of different modalities.

    Parameters
    ----------
    fixed
        `(batch or 1, 1, *shape)`.
    mask
        `(batch, 1, *shape)`.
    radius
        Half-width of the patches that are compared.

    References
    ----------
    Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
    MICCAI 2013.
    """
    descriptor = mind_descriptor(fixed, radius)

    def loss(moved: Tensor) -> Tensor:
        difference = ((mind_descriptor(moved, radius) - descriptor) ** 2).mean(1, keepdim=True)
        return masked_mean(difference, mask)

    return loss


def mind_descriptor(image: Tensor, radius: int) -> Tensor:
    """Self-similarity of the neighbours of each voxel, `(batch, pair, *shape)` in 0 to 1.

    Pairs are the neighbours (one step along an axis) at right angles to each other: 12 in 3-D, 4 in 2-D.
    """
    n = image.ndim - 2
    padded = functional.pad(image, [1] * (2 * n), mode="replicate")
    neighbours = [(axis, step) for axis in range(n) for step in (0, 2)]

    def shifted(axis: int, step: int) -> Tensor:
        window = [slice(None), slice(None)] + [slice(1, -1)] * n
        window[2 + axis] = slice(step, step + image.shape[2 + axis])
        return padded[tuple(window)]

    pairs = [(a, b) for a, b in combinations(neighbours, 2) if a[0] != b[0]]
    distance = torch.cat([(shifted(*a) - shifted(*b)) ** 2 for a, b in pairs], 1)
    distance = box_sum(distance, radius)
    distance = distance - distance.amin(1, keepdim=True)
    variance = distance.mean(1, keepdim=True)
    level = variance.detach().mean(tuple(range(1, image.ndim)), keepdim=True)
    variance = torch.clamp(variance, min=1e-3 * level + 1e-12, max=1e3 * level + 1e-12)
    return torch.exp(-distance / variance)
