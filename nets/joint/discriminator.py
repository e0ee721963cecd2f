"""Patch discriminator of DeepRS: how well two images are aligned, place by place."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from covoxel.spatial.smoothing import refine
from nets.registration.parts import block, convolution, full_precision


class PatchDiscriminator(nn.Module):
    """Tells pairs that are aligned from pairs that registration has aligned, for each patch.

    Convolutions of stride 2, no decoder and, unlike in the references, no norm: a logit knows its patch alone. A norm
    over the image would tell each patch of all others, and a pair astray anywhere would be held to be so everywhere.
    The probabilities are the alignment confidence that weighs warped labels as truth for the fixed image.

    Parameters
    ----------
    ndim
        2 or 3.
    widths
        Channels after each halving of the resolution; empty: the logits are those of voxels.
    width
        Channels at full resolution, before the first halving.

    References
    ----------
    He et al., Deep complementary joint model for complex scene registration and few-shot segmentation on medical
    images, ECCV 2020; Isola et al., Image-to-image translation with conditional adversarial networks, CVPR 2017.
    """

    def __init__(self, ndim: int, *, widths: Sequence[int] = (32, 32), width: int = 16) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, got {ndim}")
        self.ndim, self.factor = ndim, 2 ** len(widths)
        layers: list[nn.Module] = [block(ndim, 2, width)]
        for before, after in zip([width, *widths], widths, strict=False):
            layers.append(block(ndim, before, after, stride=2))
        self.body = nn.Sequential(*layers, convolution(ndim, [width, *widths][-1], 1))

    def forward(self, candidate: Tensor, fixed: Tensor) -> Tensor:
        """Logits of being a truly aligned pair, one for each cell of `2^len(widths)` voxels.

        Parameters
        ----------
        candidate
            `(batch, 1, *shape)`: the moved image, or for a pair that is aligned a mixture `β moving + (1 - β) fixed`.
        fixed
            `(batch, 1, *shape)`.

        Returns
        -------
        Tensor
            `(batch, 1, *ceil(shape / 2^len(widths)))`, float32.

        Raises
        ------
        ValueError
            If the images differ in shape or are not `(batch, 1, *shape)` with `ndim` sides.
        """
        if fixed.ndim != self.ndim + 2 or fixed.shape[1] != 1 or candidate.shape != fixed.shape:
            raise ValueError(
                f"candidate and fixed must be (batch, 1, *shape) with {self.ndim} sides, "
                f"got {tuple(candidate.shape)} and {tuple(fixed.shape)}"
            )
        dtype = next(self.parameters()).dtype
        logits: Tensor = self.body(torch.cat([candidate, fixed], 1).to(dtype)).float()
        return logits

    def confidence(self, candidate: Tensor, fixed: Tensor) -> Tensor:
        """Probability of being aligned at each voxel, `(batch, 1, *shape)` float32, interpolated between cells."""
        logits = self(candidate, fixed)
        with full_precision(logits):
            return refine(logits, [self.factor] * self.ndim, fixed.shape[2:]).sigmoid()
