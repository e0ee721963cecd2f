"""Segmentation networks, one a file: from images `(batch, channel, *shape)` to logits of every label there."""

from typing import Protocol

from torch import nn

from covoxel.registry import Registry


class SegmentationNet(Protocol):
    """Builds a network for images of `inputs` channels and `labels` labels (background included), 2-D or 3-D.

    The network takes `(batch, inputs, *shape)` of any size and returns logits `(batch, labels, *shape)`.
    """

    def __call__(self, *, ndim: int, labels: int, inputs: int = 1) -> nn.Module:
        """The network, its weights drawn from torch's generator."""
        ...


SEGMENTATION_NETS: Registry[SegmentationNet] = Registry("segmentation network", "nets.segmentation")

__all__ = ["SEGMENTATION_NETS", "SegmentationNet"]
