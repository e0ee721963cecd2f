"""Prediction by a model that is loaded once, voxel by voxel as nnU-Net's own predictor would do it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.external.nnunet.axes import back, spacing_of, stacked, turned
from covoxel.external.nnunet.errors import MemoryLimitError, NnunetError
from covoxel.external.nnunet.library import require
from covoxel.external.nnunet.memory import at_hand, in_words, prediction_bytes
from covoxel.external.nnunet.model import TrainedModel
from covoxel.external.nnunet.precision import precision_on
from covoxel.external.nnunet.profiles import Precision
from covoxel.memory_errors import is_out_of_memory
from covoxel.segmentation import Segmented
from covoxel.spatial import Grid, Image

_LIFT = 2e-5
"""Twice the difference below which `Segmented` takes two labels for equally probable."""


class Predictor:
    """Predicts with a model; its networks are built and loaded once, here.

    Parameters
    ----------
    model
        Of `read_model` or `TrainedModel.of`; what its folds say is averaged.
    device
        Where to compute.
    precision
        On a CPU: `float32` gives nnU-Net's own label maps to the voxel; `auto` is faster where the CPU has bfloat16.
        A GPU always computes in nnU-Net's float16.
    mirroring
        Whether mirrored views are averaged in, 4 of a 2-D model and 8 of a 3-D one, if the model was trained so.
    step
        From tile to tile, as a part of a tile's sides.
    memory
        Bytes that a case may take; None: those at hand when it comes.

    Raises
    ------
    MissingLibraryError
        If nnU-Net is not installed.
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
        require()
        from covoxel.external.nnunet.sliding import SlidingPredictor

        self.model, self.device, self.memory = model, torch.device(device), memory
        self.precision = precision_on(self.device, "auto" if self.device.type == "cuda" else precision)
        self.mirroring, self.step = mirroring, step
        self._sliding = SlidingPredictor(model, self.device, self.precision, mirroring=mirroring, step=step)

    @property
    def loads(self) -> int:
        """How often the model was loaded: once, whatever is predicted."""
        return self._sliding.loads

    def predict(self, image: Image | Sequence[Image]) -> Segmented:
        """Probabilities of the study's labels on the image's own grid; one image a channel.

        `spread` is the disagreement of the folds. The most probable labels are nnU-Net's own: where it decides
        between two that `Segmented` would take for equally probable, its choice is lifted by 2e-5.

        Raises
        ------
        NnunetError
            If there are more or fewer channels than the model has, they lie on different grids, an image has another
            number of axes, is zero everywhere, or has a value that is not finite.
        MemoryLimitError
            If it takes more memory than there is.
        """
        from covoxel.external.nnunet.preprocess import prepare_image

        images = [image] if isinstance(image, Image) else list(image)
        self._check(images)
        self._check_memory(images[0].grid)
        seen = [turned(each, self.model.canonical) for each in images]
        grid, content = seen[0].grid, self.model.dataset_json
        data, properties = prepare_image(
            self.model.plans, content, self.model.configuration, stacked(seen), spacing_of(grid)
        )
        try:
            logits, spread = self._sliding.logits(data)
            probabilities, labels = self._sliding.probabilities(logits, properties)
        except (MemoryError, RuntimeError) as error:
            raise self._explained(error, images[0].grid) from error
        said = torch.from_numpy(_settled(probabilities, labels))
        return Segmented(images[0].grid, torch.tensor(self.model.values), self._back(said, grid, images), spread)

    def _back(self, said: Tensor, grid: Grid, images: Sequence[Image]) -> Tensor:
        wanted = images[0].grid
        return back(said.numpy(), grid, grid if grid is wanted else wanted)

    def _check(self, images: Sequence[Image]) -> None:
        if len(images) != self.model.channels:
            raise NnunetError(f"a case must have the {self.model.channels} channels of the model, got {len(images)}")
        grid, flat = images[0].grid, len(self.model.plans["configurations"][self.model.configuration]["patch_size"])
        if grid.ndim < flat:
            raise NnunetError(f"the model is of {flat}-D images, got one of {grid.ndim} axes")
        if not all(each.grid.isclose(grid, 1e-2) for each in images):
            raise NnunetError("the channels of a case must lie on one grid")
        if not all(bool(each.data.isfinite().all()) for each in images):
            raise NnunetError("an image must have finite intensities only")
        if not any(bool(each.data.any()) for each in images):
            raise NnunetError("an image must not be zero everywhere")

    def _check_memory(self, grid: Grid) -> None:
        needs = prediction_bytes(self.model, grid.shape, tuple(grid.spacing_mm.tolist()))
        host = needs.host if self.device.type == "cuda" else needs.total
        there = at_hand("cpu") if self.memory is None else self.memory
        if host > there:
            raise MemoryLimitError(
                f"an image of {grid.shape} voxels of {[round(s, 3) for s in grid.spacing_mm.tolist()]} mm takes about "
                f"{in_words(host)} to predict, and {in_words(there)} are at hand"
            )

    def _explained(self, error: BaseException, grid: Grid) -> BaseException:
        """The error, or one that names the bytes if memory ran out."""
        if not is_out_of_memory(error):
            return error
        needs = prediction_bytes(self.model, grid.shape, tuple(grid.spacing_mm.tolist()))
        return MemoryLimitError(
            f"memory ran out on an image of {grid.shape} voxels: it takes about {in_words(needs.total)}, and "
            f"{in_words(at_hand(self.device))} are at hand"
        )


def _settled(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Probabilities whose largest is that of `labels` by more than a tie."""
    said, mine = np.ascontiguousarray(probabilities), labels[None]
    chosen = np.take_along_axis(said, mine, 0)
    rivals = said.copy()
    np.put_along_axis(rivals, mine, -1.0, 0)
    close = (rivals.max(0) > chosen[0] - _LIFT) & (rivals.argmax(0) < labels)
    if close.any():
        there, mine = said[:, close], labels[close]
        each = np.arange(len(mine))
        there[mine, each] = np.maximum(there[mine, each], rivals.max(0)[close] + _LIFT)
        said[:, close] = there / there.sum(0)
    return said
