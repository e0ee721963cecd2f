"""Label probabilities of a template: the mean of the cases' linearly interpolated indicators."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from covoxel.atlas.placement import Placement
from covoxel.spatial import Image


def label_probabilities(
    labels: Mapping[str, Image], placements: Mapping[str, Placement], values: Sequence[int]
) -> Tensor:
    """Probabilities `(label, *grid.shape)` float32 on the template's grid of the label `values`, 0 among them.

    `labels` may read each label map when it is asked for; one is held at a time. Where no case sees a voxel it is
    background.
    """
    raise NotImplementedError
