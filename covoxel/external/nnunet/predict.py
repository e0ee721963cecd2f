"""Prediction of a cohort by a model that is loaded once, as nnU-Net's own predictor would do it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from covoxel.external.nnunet.model import TrainedModel
from covoxel.external.nnunet.profiles import Precision
from covoxel.segmentation import Segmented
from covoxel.spatial import Image


@dataclass(frozen=True)
class PredictionCase:
    """A case whose images are still files: one a channel."""

    id: str
    images: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What came of a case: what was said of it, or why nothing was.

    Parameters
    ----------
    id
        Of the case.
    segmented
        Probabilities on the image's own grid; None if it failed.
    problem
        One sentence if it failed.
    """

    id: str
    segmented: Segmented | None
    problem: str | None = None


class Predictor:
    """Predicts with a model; its networks are built and loaded once, here.

    Parameters
    ----------
    model
        Of `read_model` or `TrainedModel.of`; what its folds say is averaged.
    device
        Where to compute.
    precision
        `float32` on a CPU gives nnU-Net's own label maps to the voxel; `auto` is faster where the CPU has bfloat16.
    mirroring
        Whether mirrored views are averaged in, 4 of a 2-D model and 8 of a 3-D one, if the model was trained so.
    step
        From tile to tile, as a part of a tile's sides.
    memory
        Bytes that a case may take; None: those at hand when it comes.

    Attributes
    ----------
    loads
        How often networks were loaded: once, whatever is predicted.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        mirroring: bool = True,
        step: float = 0.5,
        memory: int | None = None,
    ) -> None:
        self.loads = 0
        raise NotImplementedError

    def predict(self, image: Image | Sequence[Image]) -> Segmented:
        """Probabilities of the study's labels on the image's own grid; one image a channel.

        `spread` is the disagreement of the folds.

        Raises
        ------
        NnunetError
            If there are more or fewer channels than the model has, they lie on different grids, an image has another
            number of axes, or a value that is not finite.
        MemoryLimitError
            If it takes more memory than there is.
        """
        raise NotImplementedError

    def stream(self, cases: Iterable[PredictionCase]) -> Iterator[Predicted]:
        """Predict case by case, reading the next one while one is computed; one that fails does not stop the others."""
        raise NotImplementedError
