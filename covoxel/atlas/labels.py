"""Label probabilities of a template: the mean of the cases' linearly interpolated indicators."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from covoxel.atlas.placement import Placement, inside
from covoxel.spatial import Image, resample_probabilities


def label_probabilities(
    labels: Mapping[str, Image], placements: Mapping[str, Placement], values: Sequence[int]
) -> Tensor:
    """Probabilities of labels on the grid of a template.

    Parameters
    ----------
    labels
        Label maps by id, of cases that are placed; may read each when it is asked for: one is held at a time. Sums run
        in the order in which it names them.
    placements
        By id.
    values
        Labels wanted, background 0 among them.

    Returns
    -------
    Tensor
        `(label, *grid.shape)` float32. A case does not vote outside its field of view; where none votes is background.

    Raises
    ------
    ValueError
        If there is no label map, or 0 is not among the values.
    """
    if not labels or 0 not in values:
        raise ValueError(f"labels must be of one case or more and values hold 0, got {len(labels)}, {list(values)}")
    grid = placements[next(iter(labels))].grid
    wanted = torch.tensor(list(values))
    total = torch.zeros(len(values), *grid.shape, dtype=torch.float64)
    votes = torch.zeros(grid.shape, dtype=torch.float64)
    for name in labels:
        label_map, transform = labels[name], placements[name].transform()
        seen = inside(transform.moving_coordinates_vox(label_map.grid), label_map.grid)[0, 0].double()
        total += resample_probabilities(label_map, wanted, grid, transform).double() * seen
        votes += seen
    total[list(values).index(0)] += (votes == 0).double()
    return (total / votes.clamp(min=1)).float()
