"""Engine learned: one pass of a trained network a pair."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, device, no_grad

from covoxel.registration.alignment import align
from covoxel.registration.base import ENGINES, MovingBatch, PairError
from covoxel.registration.bounded import BoundedNetwork
from covoxel.registration.model import Alignment, PairModel
from covoxel.registration.work import WorkGrid
from covoxel.spatial import Image, Transform


@ENGINES.register("learned")
def learned(
    fixed: Image, moving: MovingBatch, *, model: PairModel, alignment: Alignment | None = None
) -> list[Transform]:
    """Register by what a network says of each pair.

    The network sees the fixed image on its own grid where orientation (nearest to RAS) and voxel size (within 10 %)
    are what it was trained on, else on such a grid over the same field of view. Pairs are taken in batches that
    memory holds; if it does not, in smaller ones, then in overlapping tiles, then on the CPU, as the log says.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    model
        The trained network.
    alignment
        How each moving image is laid on the fixed one before: "none", "centre" or "affine"; by default as the network
        was trained.

    Returns
    -------
    list of Transform
        The alignment, preceded by the displacement of the network. Whether it folds is up to the network.

    Raises
    ------
    ValueError
        If the image is too small for the network.
    PairError
        If the network says something that is not finite; names the moving image.
    """
    work = WorkGrid.of(fixed.grid, model)
    start = align(fixed, moving, alignment or model.alignment)
    devices = dict.fromkeys((moving.data.device, device("cpu")))
    network = BoundedNetwork(model.displacement, model, work.grid.shape, list(devices))
    with no_grad():
        displacement_vox = network(*work.images(fixed, moving, start))
    _check_finite(displacement_vox, moving)
    return _preceded(start, work.displacement_mm(displacement_vox))


def _check_finite(displacement_vox: Tensor, moving: MovingBatch) -> None:
    for index, finite in enumerate(displacement_vox.flatten(1).sum(1).isfinite().tolist()):
        if not finite:
            raise PairError(moving.first + index, "the network's displacement must be finite, got NaN or infinity")


def _preceded(start: Sequence[Transform], displacement_mm: Tensor) -> list[Transform]:
    return [replace(t, displacement_mm=u) for t, u in zip(start, displacement_mm, strict=True)]
