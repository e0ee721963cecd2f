"""What teaches a second round: fused labels, but a model's where it did not see the case and is surer."""

from dataclasses import dataclass

import torch

from covoxel.external.nnunet.errors import NnunetError
from covoxel.segmentation import Segmented
from covoxel.spatial import Image


@dataclass(frozen=True, eq=False)
class Corrected:
    """A label map of which a part was replaced.

    Parameters
    ----------
    label_map, confidence
        On the grid of the fused label map; each voxel has the confidence of whose label it has.
    replaced
        Share of the voxels with another label than before, of those that are not background in both.
    """

    label_map: Image
    confidence: Image
    replaced: float


def surer(label_map: Image, confidence: Image, predicted: Segmented, *, margin: float = 0.0) -> Corrected:
    """Labels of the model where its probability exceeds the confidence of the fusion by more than `margin`.

    Raises
    ------
    NnunetError
        If the grids differ or `margin` is not from 0 to 1.
    """
    if not 0 <= margin <= 1:
        raise NnunetError(f"margin must be from 0 to 1, got {margin}")
    if not predicted.grid.isclose(label_map.grid, 1e-2) or not confidence.grid.isclose(label_map.grid, 1e-2):
        raise NnunetError("fused labels, their confidence and the prediction of a case must lie on one grid")
    before, said = label_map.data, predicted.label_map
    sure = predicted.probabilities.amax(0)
    better = sure > confidence.data + margin
    after = torch.where(better, said, before)
    counted = (before != 0) | (after != 0)
    changed = (before != after)[counted].float().mean() if bool(counted.any()) else torch.zeros(())
    grid = label_map.grid
    return Corrected(
        Image(after, grid), Image(torch.where(better, sure, confidence.data.float()), grid), float(changed)
    )
