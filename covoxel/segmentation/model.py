"""What is needed of a trained network to segment with it, whatever trained it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from covoxel.registration.model import Alignment


@dataclass(frozen=True, eq=False)
class ImageModel:
    """A network that segments single images.

    Parameters
    ----------
    logits
        `f(image)`, `(batch, 1, *shape)` with intensities of about 0 to 1, to `(batch, label, *shape)`. Works on the
        device of its argument, so that the CPU can take over from a GPU that is too small.
    values
        Value in a label map of each label, ascending, 0 (background) first.
    spacing_mm
        Voxel size that it was trained on, along each of R, A, S; None: any.
    smallest_side
        Smallest side, voxels, of an image it takes; a smaller one is refused with a sentence.
    bytes_per_voxel
        Working memory for a voxel of an image, about; bounds how many are taken at once.

    Raises
    ------
    ValueError
        If `values` do not ascend from 0, or are fewer than two.
    """

    logits: Callable[[Tensor], Tensor]
    values: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None = None
    smallest_side: int = 1
    bytes_per_voxel: int = 1000

    def __post_init__(self) -> None:
        _check_values(self.values)


@dataclass(frozen=True, eq=False)
class PairSegmenter:
    """A network that segments an image beside another one that is labelled.

    Parameters
    ----------
    logits
        `f(fixed, moving, moving_probabilities)`, images `(batch, 1, *shape)` and `(batch, label, *shape)` on one grid,
        to `(batch, label, *shape)` of the fixed image. Zeros of all labels say that nothing is known of a voxel.
    values, spacing_mm, smallest_side, bytes_per_voxel
        As of `ImageModel`.
    alignment
        How images were laid on one another before, as of `covoxel.registration.PairModel`.

    Raises
    ------
    ValueError
        As `ImageModel`.
    """

    logits: Callable[[Tensor, Tensor, Tensor], Tensor]
    values: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None = None
    alignment: Alignment = "centre"
    smallest_side: int = 1
    bytes_per_voxel: int = 1000

    def __post_init__(self) -> None:
        _check_values(self.values)


def _check_values(values: tuple[int, ...]) -> None:
    if len(values) < 2 or values[0] != 0 or list(values) != sorted(set(values)):
        raise ValueError(f"values must be two or more and ascend from 0 (background), got {list(values)}")
