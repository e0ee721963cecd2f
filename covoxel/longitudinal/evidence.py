"""Segmentation of each visit in the template's space: by the template's labels and what the other visits look like."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion import Evidence
from covoxel.fusion.base import FUSION_RULES
from covoxel.spatial import Image


def visit_probabilities(
    name: str,
    levelled: Mapping[str, Image],
    probabilities: Tensor,
    values: Tensor,
    *,
    rule: str = "locally_weighted",
    **options: Any,
) -> Tensor:
    """Probabilities of one visit on the template's grid: fused from all other visits, each with the template's labels.

    Where a visit lies on the template as the others do, they agree and the template's labels stay as they are; where
    it does not, its own intensities choose among the voxels nearby.

    Parameters
    ----------
    name
        Of the visit.
    levelled
        All visits on the template's grid, their bias fields evened out.
    probabilities, values
        `(label, *shape)` of the template, and `(label,)` the values, background first.
    rule, options
        A fusion rule, and its options.

    Returns
    -------
    Tensor
        `(label, *shape)`; the template's own where there is no other visit.
    """
    others = [image for other, image in sorted(levelled.items()) if other != name]
    if not others:
        return probabilities
    fixed = levelled[name].data.float()
    evidence = Evidence(
        fixed,
        torch.stack([image.data.float() for image in others]),
        probabilities.float().expand(len(others), *probabilities.shape),
        values.to(torch.int64),
        torch.ones((len(others), *fixed.shape), dtype=torch.bool),
    )
    return FUSION_RULES[rule](evidence, **options)
