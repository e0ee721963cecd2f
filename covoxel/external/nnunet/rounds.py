"""A second round: fused labels give way to cross-validated predictions where the model is surer than the fusion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from covoxel.external.nnunet.dataset import DatasetCase
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
    raise NotImplementedError


def second_round(
    cases: Sequence[DatasetCase],
    predict: Callable[[DatasetCase], Segmented],
    folder: Path,
    *,
    margin: float = 0.0,
) -> tuple[DatasetCase, ...]:
    """The same cases with corrected labels and confidences, in new files in `folder`; hand-made labels stay.

    Parameters
    ----------
    cases
        Of the first round.
    predict
        What the fold's model says that did not see the case.
    folder
        For `CASE.nii.gz` and `CASE_confidence.nii.gz`; a pair that is there and was made from the same files is kept.
    margin
        As of `surer`.
    """
    raise NotImplementedError
